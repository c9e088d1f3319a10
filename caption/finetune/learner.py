"""A LLaVA-shaped model in training: its parts, and the loss of its answers.

What is frozen stays in the checkpoint's dtype. What trains is kept in float32 and computed with under autocast.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from inspect import signature
from typing import Any

import torch
from torch.nn import functional as F

from caption.finetune.base import PromptEncoder, Sample
from caption.finetune.config import CaptionerTrainConfig, LoraSettings, Part

MODULES = ("vision_tower", "multi_modal_projector", "language_model")
"""What a LLaVA-shaped model in transformers is made of."""


class Learner:
    """A model whose parts can train.

    Args:
        model: of transformers, on its device, with the modules `MODULES`.
        tokenizer: the model's.
        encode: images and prompts as the model's inputs.
        dtype: of the arithmetic.
        config: which parts train in the run, and LoRA.

    Raises:
        ValueError: the model has another shape.
    """

    def __init__(
        self, model: Any, tokenizer: Any, encode: PromptEncoder, dtype: torch.dtype, config: CaptionerTrainConfig
    ) -> None:
        inner: Any = getattr(model, "model", None)
        if lacking := [name for name in MODULES if not hasattr(inner, name)]:
            raise ValueError(
                f"train_captioner.model={config.model}: {type(model).__name__} has no {', '.join(lacking)}; expected "
                "a LLaVA-shaped model: Llava, LlavaNext, LlavaOnevision, VipLlava, InternVL or another with these"
            )
        self.model, self.tokenizer, self.dtype = model, tokenizer, dtype
        self._inner, self._encode, self._limit = inner, encode, config.max_answer_tokens
        self._keeps_logits = "logits_to_keep" in signature(model.forward).parameters
        self._is_checkpointed = config.gradient_checkpointing
        self._uses_lora = config.uses_lora
        model.requires_grad_(False)
        if config.uses_lora:
            inner.language_model = _with_lora(inner.language_model, config.lora)
        if config.gradient_checkpointing:
            model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        self._stored_dtypes: dict[torch.nn.Parameter, torch.dtype] = {}
        for part in {part for stage in config.stages for part in stage.lr}:
            for weight in self.weights(part):
                self._stored_dtypes.setdefault(weight, weight.dtype)
        for weight in self._stored_dtypes:
            weight.data = weight.data.float()

    @property
    def device(self) -> torch.device:
        found: torch.device = next(self.model.parameters()).device
        return found

    def weights(self, part: Part) -> list[torch.nn.Parameter]:
        """Of a part, each once."""
        return list(dict.fromkeys(self._weights(part)))

    def _weights(self, part: Part) -> Iterator[torch.nn.Parameter]:
        if part == "vision_tower":
            yield from self._inner.vision_tower.parameters()
        elif part == "projector":
            yield from self._inner.multi_modal_projector.parameters()
            if isinstance(newline := getattr(self._inner, "image_newline", None), torch.nn.Parameter):
                yield newline  # between the rows of tiles, a token that LLaVA-NeXT learns with its projector
        elif part == "lora":
            named = self._inner.language_model.named_parameters()
            yield from (weight for name, weight in named if "lora_" in name)
        else:
            yield from self._inner.language_model.parameters()
            yield from self.model.get_output_embeddings().parameters()

    def trained(self) -> dict[str, torch.nn.Parameter]:
        """The weights that any stage trains, by name."""
        return {name: weight for name, weight in self.model.named_parameters() if weight in self._stored_dtypes}

    def train(self, parts: Iterable[Part]) -> None:
        """Let these parts train, and no others."""
        parts = set(parts)
        self.model.requires_grad_(False)
        for part in parts:
            for weight in self.weights(part):
                weight.requires_grad_(True)
        self.model.eval()
        if parts:
            self._inner.multi_modal_projector.train()
        if parts & {"lora", "language_model"} or (parts and self._is_checkpointed):
            self._inner.language_model.train()
        if "vision_tower" in parts:
            self._inner.vision_tower.train()

    def answer_ids(self, text: str) -> list[int]:
        """Tokens of an answer and its end; one that is cut off has no end. What looks like a control token is text."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
        return [*ids, self._end] if len(ids) < self._limit else ids[: self._limit]

    def losses(self, samples: Sequence[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
        """Next-token loss of the answers' tokens alone, (n,) float32 in nats, and the sample of each, (n,) int64."""
        answers = [self.answer_ids(sample.answer) for sample in samples]
        inputs = {name: value.to(self.device) for name, value in self._encode(samples).items()}
        width = max(map(len, answers))
        tail = torch.full((len(samples), width), self.tokenizer.pad_token_id)
        is_answer = torch.zeros_like(tail, dtype=torch.bool)
        for row, answer in enumerate(answers):
            tail[row, : len(answer)] = torch.tensor(answer)
            is_answer[row, : len(answer)] = True
        inputs = with_answers(inputs, tail.to(self.device), is_answer.to(self.device))
        kept = {"logits_to_keep": width + 1} if self._keeps_logits else {}
        with self._autocast():
            logits = self.model(**inputs, **kept, use_cache=False).logits[:, -width - 1 : -1]  # (N, width, vocabulary)
        token_losses = F.cross_entropy(logits[is_answer].float(), tail[is_answer].to(self.device), reduction="none")
        return token_losses, torch.arange(len(samples))[:, None].expand_as(tail)[is_answer].to(self.device)

    def merge(self) -> None:
        """Add the LoRA updates to the weights that they adapt, and give every weight its dtype again."""
        if self._uses_lora:
            self._inner.language_model = self._inner.language_model.merge_and_unload()
        for weight, dtype in self._stored_dtypes.items():
            weight.data = weight.data.to(dtype)
        self.model.requires_grad_(False).eval()
        self.model.tie_weights()

    @property
    def _end(self) -> int:
        """The token that ends an answer: the tokenizer's, where generation stops at it."""
        ends = self.model.generation_config.eos_token_id
        ends = {ends} if isinstance(ends, int) else set(ends or ())
        end: int = self.tokenizer.eos_token_id
        return end if end in ends or not ends else min(ends)

    def _autocast(self) -> AbstractContextManager[None]:
        if self.dtype == torch.float32:
            return nullcontext()
        context: AbstractContextManager[None] = torch.autocast(self.device.type, self.dtype)
        return context


def with_answers(inputs: Mapping[str, Any], tail: torch.Tensor, is_answer: torch.Tensor) -> dict[str, Any]:
    """Inputs of prompts with their answers.

    Args:
        inputs: of the prompts, (N, L) per token, pads on the left.
        tail: (N, width) int64, the answers with pads on the right.
        is_answer: (N, width) bool, True on the answers.
    """
    result = dict(inputs)
    shape = result["input_ids"].shape
    for name, extra in (("input_ids", tail), ("attention_mask", is_answer.long())):
        result[name] = torch.cat([result[name], extra], 1)
    for name, value in result.items():  # other values per token, such as token types: the answer is text
        if value.shape == shape:
            result[name] = F.pad(value, (0, tail.shape[1]))
    return result


def _with_lora(language_model: Any, settings: LoraSettings) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha or 2 * settings.rank,
        lora_dropout=settings.dropout,
        target_modules="all-linear" if settings.layers is None else list(settings.layers),
    )
    return get_peft_model(language_model, config)
