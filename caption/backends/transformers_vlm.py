"""Any image-text-to-text model that transformers loads: LLaVA, Qwen-VL, SmolVLM, InternVL, ... by hub id or folder.

Frames go in as a list of images: no video processor (and no torchvision) is needed. The model's own chat
template makes the prompt; padding is on the left, where it changes no output. Schemas do not constrain the text here.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

from pydantic import Field

from caption.backends.base import CaptionBackend, CaptionRequest, CaptionResult, FailedRequest, UnusableModel
from caption.backends.batches import Batches
from caption.backends.checkpoint import load_checkpoint
from caption.backends.hub_model import HubModelConfig
from caption.backends.thinking import without_thinking
from caption.provenance import Provenance
from caption.quality.base import Check
from curate.encoders.fingerprint import library_versions, major_versions, path_digest
from curate.schema import content_digest

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
LIBRARIES = ("transformers", "tokenizers", "torch", "pillow")


class TransformersVlmConfig(HubModelConfig):
    """A vision–language model in transformers, and how it decodes."""

    kind: Literal["transformers"] = "transformers"
    dtype: Dtype = Field(
        "auto", description="auto: as the checkpoint says where the device computes in it, else float32"
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:<n>")
    temperature: float = Field(0.0, ge=0, description="0 is greedy: the same clip gives the same caption")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus of the sampling, for a temperature above 0")
    repetition_penalty: float = Field(1.0, gt=0, description="above 1 makes tokens that were written less likely")
    no_repeat_ngram_size: int = Field(0, ge=0, description="n-grams of this size occur at most once; 0 allows all")
    seed: int = Field(0, description="of the sampling, for a temperature above 0")
    trust_remote_code: bool = Field(False, description="run code that comes with a hub id or folder")

    def build(self) -> CaptionBackend:
        return TransformersVlm(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Decoding:
    """What the requests of one batch share."""

    max_tokens: int
    repetition_penalty: float
    temperature: float


class TransformersVlm:
    """`CaptionBackend` on transformers' `generate`. Results do not depend on the batch (to rounding)."""

    checks: Sequence[Check] = ()
    num_in_flight = 0

    def __init__(self, config: TransformersVlmConfig) -> None:
        self.config = config
        self._batches = Batches()
        self.model: Any = None
        self.processor: Any = None
        self.dtype: Any = None

    @cached_property
    def provenance(self) -> Provenance:
        """See `CaptionBackend`. A folder's revision is the digest of its files."""
        config = self.config
        folder = config.folder
        revision = path_digest(folder) if folder else f"{config.model}@{config.pinned().revision}"
        parameters = {**self.decoding, "dtype": config.dtype, "trust_remote_code": config.trust_remote_code}
        seed = config.seed if config.temperature > 0 else None
        decides = (revision, json.dumps(parameters, sort_keys=True), str(seed), major_versions("transformers"))
        return Provenance(
            backend=config.kind,
            model=config.model,
            revision=revision,
            fingerprint=content_digest("transformers", *decides),
            parameters=parameters,
            seed=seed,
            libraries=library_versions(*LIBRARIES),
        )

    @property
    def decoding(self) -> dict[str, Any]:
        """How tokens are chosen, without the token limit."""
        config = self.config
        chosen: dict[str, Any] = {
            "do_sample": config.temperature > 0,
            "num_beams": 1,
            "repetition_penalty": config.repetition_penalty,
            "no_repeat_ngram_size": config.no_repeat_ngram_size,
        }
        if config.temperature > 0:
            chosen |= {"temperature": config.temperature, "top_p": config.top_p, "sampling": "seeded per request"}
        return chosen

    def setup(self) -> None:
        """See `CaptionBackend`."""
        if self.model is not None:
            return
        config = self.config.pinned()
        try:
            loaded = load_checkpoint(
                str(config.folder or config.model),
                revision=config.revision or "main",
                dtype=config.dtype,
                device=config.device,
                trust_remote_code=config.trust_remote_code,
            )
        except UnusableModel as error:
            raise ValueError(f"caption model {config.model!r}: {error}") from error
        self.model, self.processor, self.dtype = loaded.model, loaded.processor, loaded.dtype

    def caption(self, requests: Sequence[CaptionRequest]) -> list[CaptionResult | FailedRequest]:
        """See `CaptionBackend`. Requests that are decoded in the same way are batches, the shortest first."""
        groups: dict[_Decoding, list[int]] = defaultdict(list)
        for row, request in enumerate(requests):
            groups[self._decoding_of(request)].append(row)
        results: dict[int, CaptionResult | FailedRequest] = {}
        for decoding, rows in groups.items():
            rows.sort(key=lambda row: (requests[row].frames.nbytes, len(requests[row].prompt)))
            generate = partial(self._generate, decoding=decoding)
            results |= zip(rows, self._batches.run([requests[row] for row in rows], generate), strict=True)
        return [results[row] for row in range(len(requests))]

    def losses(self, requests: Sequence[CaptionRequest], texts: Sequence[str]) -> list[float]:
        """Mean next-token loss of each text as the answer to its request, in nats.

        The difference to the loss with other frames measures how much the model looks at the frames.
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
        for name, value in inputs.items():  # other values per token, such as token types: the answer is text
            if value.shape == (rows, start):
                inputs[name] = torch.nn.functional.pad(value, (0, width))
        with torch.inference_mode():
            logits = self.model(**inputs).logits[:, start - 1 : -1].float()  # (rows, width, vocabulary)
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), tail, reduction="none")
        return ((losses * is_answer).sum(1) / is_answer.sum(1)).tolist()

    def _decoding_of(self, request: CaptionRequest) -> "_Decoding":
        return _Decoding(
            max_tokens=request.max_tokens,
            repetition_penalty=request.repetition_penalty or self.config.repetition_penalty,
            temperature=request.sampling_temperature(self.config.temperature),
        )

    def _generate(self, requests: Sequence[CaptionRequest], decoding: "_Decoding") -> list[CaptionResult]:
        import torch

        inputs = self._inputs(requests)
        num_padded = inputs["input_ids"].shape[1]
        with torch.inference_mode():
            output = self.model.generate(
                **inputs,
                max_new_tokens=decoding.max_tokens,
                repetition_penalty=decoding.repetition_penalty,
                no_repeat_ngram_size=self.config.no_repeat_ngram_size,
                num_beams=1,
                do_sample=False,
                logits_processor=self._sampling(requests, decoding.temperature),
            )
        ends = self._end_ids()
        results = []
        for row, tokens in enumerate(output[:, num_padded:].tolist()):
            end = next((place for place, token in enumerate(tokens) if token in ends), None)
            written = tokens if end is None else tokens[:end]
            results.append(
                CaptionResult(
                    text=without_thinking(self.processor.tokenizer.decode(written, skip_special_tokens=True)),
                    finish_reason="length" if end is None else "stop",
                    num_prompt_tokens=int(inputs["attention_mask"][row].sum()),
                    num_output_tokens=len(tokens) if end is None else end + 1,
                )
            )
        return results

    def _sampling(self, requests: Sequence[CaptionRequest], temperature: float) -> list[Any]:
        """`LogitsProcessor`s that make the greedy choice a sample; none where the temperature is 0."""
        if not temperature:
            return []
        from caption.backends.sampling import SeededSampling

        seeds = [request.sampling_seed(self.config.seed) for request in requests]
        return [SeededSampling(seeds, temperature=temperature, top_p=self.config.top_p)]

    def _inputs(self, requests: Sequence[CaptionRequest]) -> Any:
        """One padded batch on the model's device, images in the model's dtype."""
        from caption.backends.processor import control_tokens, conversation

        tokens = control_tokens(self.processor)
        is_plain = not any(token in request.prompt for request in requests for token in tokens)
        batch = self.processor.apply_chat_template(
            [conversation(request.frames, request.prompt) for request in requests],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            # Only where a prompt holds control tokens: Idefics3's processor cannot sanitize.
            sanitize_control_tokens=not is_plain,
            processor_kwargs={"padding": True},
        )
        return batch.to(self.model.device, dtype=self.dtype)

    def _end_ids(self) -> set[int]:
        ends = self.model.generation_config.eos_token_id
        return {ends} if isinstance(ends, int) else set(ends or [self.processor.tokenizer.eos_token_id])
