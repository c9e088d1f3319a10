"""Any image-text-to-text model that transformers loads: LLaVA, Qwen-VL, SmolVLM, InternVL, ... by hub id or folder.

Frames go in as a list of images, so that no video processor (and no torchvision) is needed. The model's own chat
template makes the prompt; pads are on the left, where they change no output.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from caption.backends.backend import CaptionRequest, CaptionResult
from curate.encoders import torchvision_cpu
from curate.encoders.device import pick_device
from curate.encoders.fingerprint import path_digest

EMBEDDED = "reelpack-llava"
"""Name of the embedded captioner, docs/models/reelpack_llava.md."""


class TransformersVlmConfig(BaseModel):
    """A vision–language model in transformers, and how it decodes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["transformers"] = "transformers"
    model: str = Field(EMBEDDED, description=f"{EMBEDDED}, a local folder, or a hub id")
    revision: str | None = Field(None, description="commit of a hub id; pin it, since the name alone can move")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: as the checkpoint says where the device computes in it, else float32"
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:<n>")
    temperature: float = Field(0.0, ge=0, description="0 is greedy: the same clip gives the same caption")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus of the sampling, for a temperature above 0")
    repetition_penalty: float = Field(1.0, gt=0, description="above 1 makes tokens that were written less likely")
    no_repeat_ngram_size: int = Field(0, ge=0, description="n-grams that may occur only once; 0 allows all")
    seed: int = Field(0, description="of the sampling, for a temperature above 0")
    trust_remote_code: bool = Field(False, description="run code that comes with a hub id or folder")

    @property
    def name(self) -> str:
        """Last part of the model's name, as tables are called by it."""
        return Path(self.model).name

    def build(self) -> "TransformersVlm":
        return TransformersVlm(self)


class TransformersVlm:
    """`CaptionBackend` on transformers' `generate`. Greedy results do not depend on the batch (to rounding)."""

    def __init__(self, config: TransformersVlmConfig) -> None:
        self.config = config
        self.model: Any = None
        self.processor: Any = None
        self._dtype: Any = None

    @cached_property
    def weights_id(self) -> str:
        """See `CaptionBackend`.

        Raises:
            MissingWeights: the embedded captioner was not assembled.
        """
        source = self._source
        return path_digest(source) if isinstance(source, Path) else f"{source}@{self.config.revision or 'main'}"

    @property
    def sampling(self) -> dict[str, object]:
        """See `CaptionBackend`; these are keyword arguments of `generate`."""
        config = self.config
        chosen: dict[str, object] = {
            "do_sample": config.temperature > 0,
            "num_beams": 1,
            "repetition_penalty": config.repetition_penalty,
            "no_repeat_ngram_size": config.no_repeat_ngram_size,
        }
        if config.temperature > 0:
            chosen |= {"temperature": config.temperature, "top_p": config.top_p, "top_k": 0}
        return chosen

    def setup(self) -> None:
        """Load processor and model.

        Raises:
            MissingWeights: the embedded captioner was not assembled.
            ValueError: transformers cannot load the model, or it has no chat template.
        """
        if self.model is not None:
            return
        torchvision_cpu.repair()
        from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

        if self.config.model == EMBEDDED:
            import caption.llava.vision  # noqa: F401  registers its vision tower
        source, device = str(self._source), pick_device(self.config.device)
        options = {"revision": self.config.revision or "main", "trust_remote_code": self.config.trust_remote_code}
        try:
            # "pil": the same pixels with and without torchvision.
            processor = AutoProcessor.from_pretrained(source, backend="pil", **options)
            dtype = self._pick_dtype(AutoConfig.from_pretrained(source, **options), device)
            # Not cast afterwards: some models keep parts in float32 on purpose.
            model = AutoModelForImageTextToText.from_pretrained(source, dtype=dtype, **options)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"caption model {self.config.model!r}: transformers cannot load it as an image-text-to-text model. "
                f"Expected {EMBEDDED}, a local folder with config, weights and processor, or a hub id: {error}"
            ) from error
        if getattr(processor, "tokenizer", None) is None or not processor.chat_template:
            raise ValueError(
                f"caption model {self.config.model!r}: its processor has no chat template: how to ask it is unknown. "
                "Use a model tuned for instructions (often named -Instruct, -hf or -it), or put its template as "
                "chat_template.jinja into a local copy"
            )
        processor.tokenizer.padding_side = "left"
        if processor.tokenizer.pad_token is None:
            processor.tokenizer.pad_token = processor.tokenizer.eos_token
        self.model, self.processor, self._dtype = model.to(device).eval(), processor, dtype

    def caption(self, requests: Sequence[CaptionRequest]) -> list[CaptionResult]:
        """See `CaptionBackend`. Requests of one length limit go through the model together."""
        results: dict[int, CaptionResult] = {}
        for limit in Counter(request.max_tokens for request in requests):
            rows = [row for row, request in enumerate(requests) if request.max_tokens == limit]
            results |= zip(rows, self._generate([requests[row] for row in rows], limit), strict=True)
        return [results[row] for row in range(len(requests))]

    def losses(self, requests: Sequence[CaptionRequest], texts: Sequence[str]) -> list[float]:
        """Mean next-token loss of each text as the answer to its request, in nats; low where the model would write it.

        What it loses with other frames is how much the model looks at them.
        """
        import torch

        tokenizer = self.processor.tokenizer
        answers = [[*tokenizer(text, add_special_tokens=False).input_ids, min(self._end_ids())] for text in texts]
        width = max(map(len, answers))
        inputs = self._inputs(requests)
        rows, start = inputs["input_ids"].shape
        tail = torch.tensor([answer + [tokenizer.pad_token_id] * (width - len(answer)) for answer in answers])
        is_answer = torch.tensor([[place < len(answer) for place in range(width)] for answer in answers])
        tail, is_answer = tail.to(self.model.device), is_answer.to(self.model.device)
        for name, extra in (("input_ids", tail), ("attention_mask", is_answer.long())):
            inputs[name] = torch.cat([inputs[name], extra], 1)
        for name, value in inputs.items():  # what else runs along the tokens, such as token types: text
            if value.shape == (rows, start):
                inputs[name] = torch.nn.functional.pad(value, (0, width))
        with torch.inference_mode():
            logits = self.model(**inputs).logits[:, start - 1 : -1].float()  # (rows, width, vocabulary)
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), tail, reduction="none")
        return ((losses * is_answer).sum(1) / is_answer.sum(1)).tolist()

    def _generate(self, requests: Sequence[CaptionRequest], max_tokens: int) -> list[CaptionResult]:
        import torch

        inputs = self._inputs(requests)
        num_padded = inputs["input_ids"].shape[1]
        if self.config.temperature > 0:
            torch.manual_seed(self.config.seed)
        with torch.inference_mode():
            output = self.model.generate(**inputs, **self.sampling, max_new_tokens=max_tokens)
        ends = self._end_ids()
        results = []
        for row, tokens in enumerate(output[:, num_padded:].tolist()):
            end = next((place for place, token in enumerate(tokens) if token in ends), None)
            written = tokens if end is None else tokens[:end]
            results.append(
                CaptionResult(
                    text=self.processor.tokenizer.decode(written, skip_special_tokens=True).strip(),
                    finish_reason="length" if end is None else "stop",
                    num_prompt_tokens=int(inputs["attention_mask"][row].sum()),
                    num_output_tokens=len(tokens) if end is None else end + 1,
                )
            )
        return results

    def _inputs(self, requests: Sequence[CaptionRequest]) -> Any:
        """One padded batch on the model's device, pictures in the model's dtype."""
        conversations = [
            [
                {
                    "role": "user",
                    "content": [
                        *({"type": "image", "image": frame} for frame in request.frames),
                        {"type": "text", "text": request.prompt},
                    ],
                }
            ]
            for request in requests
        ]
        batch = self.processor.apply_chat_template(
            conversations,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            sanitize_control_tokens=True,
            processor_kwargs={"padding": True},
        )
        return batch.to(self.model.device, dtype=self._dtype)

    def _end_ids(self) -> set[int]:
        ends = self.model.generation_config.eos_token_id
        return {ends} if isinstance(ends, int) else set(ends or [self.processor.tokenizer.eos_token_id])

    def _pick_dtype(self, config: Any, device: Any) -> Any:
        """The configured dtype, or the checkpoint's where `device` computes in it."""
        import torch

        if self.config.dtype != "auto":
            return getattr(torch, self.config.dtype)
        stored = config.dtype or getattr(config.get_text_config(), "dtype", None) or torch.float32
        if device.type != "cpu" or stored == torch.float32:
            return stored
        # Processors without bfloat16 units would emulate it, and none has float16 kernels for all that models use.
        return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32

    @cached_property
    def _source(self) -> Path | str:
        """Where transformers loads from: a folder, or a hub id."""
        if self.config.model == EMBEDDED:
            from caption.llava.assemble import resolve

            return resolve()
        folder = Path(self.config.model).expanduser()
        return folder if folder.is_dir() else self.config.model
