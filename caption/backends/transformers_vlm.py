"""Any image-text-to-text model that transformers loads: LLaVA, Qwen-VL, SmolVLM, InternVL, ... by hub id or folder.

Frames go in as a list of images, so that no video processor (and no torchvision) is needed. The model's own chat
template makes the prompt; pads are on the left, where they change no output. `processor.py` loads both.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pickle import UnpicklingError
from typing import Any

import numpy as np
from safetensors import SafetensorError

from caption.backends.base import CaptionRequest, CaptionResult, UnusableModel
from caption.backends.transformers_config import EMBEDDED, TransformersVlmConfig
from curate.device import pick_device
from curate.encoders import torchvision_cpu
from curate.encoders.fingerprint import library_versions, path_digest
from curate.schema import content_digest

LOAD_ERRORS = (
    UnpicklingError,
    OSError,
    ValueError,
    ImportError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    SafetensorError,
)
"""What transformers raises on checkpoints that are not whole, not of its kind, or want packages that are not there."""

MAX_MESSAGE = 600
LIBRARIES = ("transformers", "tokenizers", "torch", "pillow")


class TransformersVlm:
    """`CaptionBackend` on transformers' `generate`. Greedy results do not depend on the batch (to rounding)."""

    def __init__(self, config: TransformersVlmConfig) -> None:
        self.config = config
        self.model: Any = None
        self.processor: Any = None
        self._dtype: Any = None
        self._domain: Any = None

    @cached_property
    def weights_id(self) -> str:
        """See `CaptionBackend`.

        Raises:
            MissingWeights: the embedded captioner was not assembled.
            ValueError: neither the hub nor its local cache knows the id.
        """
        folder = self.config.folder
        if folder is None:
            return f"{self.config.model}@{self.config.pinned().revision}"
        if self.config.model != EMBEDDED:
            return path_digest(folder)
        from caption.llava.domain import STATISTICS

        return content_digest(path_digest(folder), path_digest(STATISTICS))

    @property
    def libraries(self) -> dict[str, str]:
        """See `CaptionBackend`."""
        return library_versions(*LIBRARIES)

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
            ValueError: the model cannot be loaded, or has no chat template for pictures; says what is missing.
        """
        if self.model is not None:
            return
        torchvision_cpu.repair()
        if self.config.model == EMBEDDED:
            import caption.llava.vision  # noqa: F401  registers its vision tower
        config = self.config.pinned()
        try:
            self._load(str(config.folder or config.model), config.revision or "main")
        except UnusableModel as error:
            raise ValueError(f"caption model {self.config.model!r}: {error}") from error
        except LOAD_ERRORS as error:
            raise ValueError(f"caption model {self.config.model!r}: {_why_not(error)}") from error
        if self.config.model == EMBEDDED:
            from caption.llava.domain import Domain

            model: Any = self.model
            self._domain = Domain(model.model.vision_tower, self.processor.image_processor)

    def _load(self, source: str, revision: str) -> None:
        from transformers import AutoConfig, AutoModelForImageTextToText

        from caption.backends.processor import load_processor

        device = pick_device(self.config.device)
        options: dict[str, Any] = {"revision": revision, "trust_remote_code": self.config.trust_remote_code}
        config = AutoConfig.from_pretrained(source, **options)
        processor = load_processor(source, config, **options)
        dtype = self._pick_dtype(config, device)
        # Not cast afterwards: some models keep parts in float32 on purpose.
        model, info = AutoModelForImageTextToText.from_pretrained(
            source, dtype=dtype, output_loading_info=True, **options
        )
        lacking = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
        if unset := sorted(lacking & {name for name, _ in model.named_parameters()}):  # each of tied ones once
            raise UnusableModel(
                f"{len(unset)} of its weights are not in the checkpoint, {unset[0]} among them, and would stay "
                "random: the download is not complete, or config.json is of another model"
            )
        self.model, self.processor, self._dtype = model.to(device).eval(), processor, dtype

    def unsure(self, clips: Sequence[np.ndarray]) -> list[str | None]:
        """See `CaptionBackend`. Only the embedded captioner says so: it knows one film."""
        return [self._domain.unsure(frames) if self._domain else None for frames in clips]

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
        from caption.backends.processor import control_tokens, conversation

        tokens = control_tokens(self.processor)
        is_plain = not any(token in request.prompt for request in requests for token in tokens)
        batch = self.processor.apply_chat_template(
            [conversation(request.frames, request.prompt) for request in requests],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            # Only where there is one: Idefics3's processor cannot do it.
            sanitize_control_tokens=not is_plain,
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


def _why_not(error: Exception) -> str:
    """What transformers said, and what to do."""
    if isinstance(error, UnpicklingError):  # torch advises to run what is in the file
        return (
            "its weights hold more than tensors, which could run code; expected those of its repository as safetensors"
        )
    said = f"transformers cannot load it as an image-text-to-text model: {type(error).__name__}: {str(error).strip()}"
    if len(said) > MAX_MESSAGE:  # some list every class that there is
        said = f"{said[:MAX_MESSAGE]}…"
    if isinstance(error, ImportError):
        return f"{said}\nInstall it; `pip install 'reelpack[caption]'` brings what the models in README.md need"
    return (
        f"{said}\nExpected {EMBEDDED}, a local folder with config, weights, tokenizer and processor, or a hub id of a "
        "model whose class transformers has (often the repository that ends in -hf), complete in the cache or in reach"
    )
