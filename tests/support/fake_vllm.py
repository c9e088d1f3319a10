"""What `caption.backends.vllm` uses of vLLM 0.11 and later, by its documentation, without a model.

vLLM needs a GPU and is not installed where the tests run. The names, arguments and results are those of its
documentation: `LLM(...)`, `LLM.chat`, `SamplingParams`, `StructuredOutputsParams`, `RequestOutput`, and the errors. A
text is a function of the request alone.
"""

import hashlib
import sys
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

MAX_MODEL_LEN = 64


class EngineDeadError(Exception):
    """The process of the engine ended."""


@dataclass(kw_only=True)
class StructuredOutputsParams:
    json: str | dict[str, Any] | None = None


@dataclass(kw_only=True)
class SamplingParams:
    max_tokens: int = 16
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    repetition_penalty: float = 1.0
    structured_outputs: StructuredOutputsParams | None = None


@dataclass(kw_only=True)
class CompletionOutput:
    index: int
    text: str
    token_ids: list[int]
    finish_reason: str


@dataclass(kw_only=True)
class RequestOutput:
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput] = field(default_factory=list)


class LLM:
    """Refuses a whole call for one prompt that is too long, as vLLM does; `calls` has what `chat` was given."""

    dies_at = "engine, die"

    def __init__(self, model: str, *, limit_mm_per_prompt: dict[str, int], max_model_len: int | None, **given: Any):
        unknown = given.keys() - {
            "revision", "dtype", "tensor_parallel_size", "gpu_memory_utilization", "trust_remote_code",
            "generation_config",
        }  # fmt: skip
        if unknown:
            raise TypeError(f"EngineArgs has no {unknown}")
        if not model:
            raise ValueError("no such model")
        self.max_model_len = max_model_len or MAX_MODEL_LEN
        self.max_images = limit_mm_per_prompt["image"]
        self.calls: list[tuple[list[Any], list[SamplingParams]]] = []

    def chat(
        self, messages: list[list[dict[str, Any]]], sampling_params: list[SamplingParams], use_tqdm: bool = True
    ) -> list[RequestOutput]:
        assert len(messages) == len(sampling_params)
        self.calls.append((messages, sampling_params))
        prompts = [self._tokens(conversation) for conversation in messages]
        return [self._output(prompt, params) for prompt, params in zip(prompts, sampling_params, strict=True)]

    def _tokens(self, conversation: list[dict[str, Any]]) -> list[int]:
        ((role, content),) = [(message["role"], message["content"]) for message in conversation]
        images = [part["image_pil"] for part in content if part["type"] == "image_pil"]
        assert role == "user" and all(isinstance(image, Image.Image) for image in images)
        if len(images) > self.max_images:
            raise ValueError(f"At most {self.max_images} image(s) may be provided in one prompt.")
        (text,) = [part["text"] for part in content if part["type"] == "text"]
        if text == self.dies_at:
            raise EngineDeadError
        seen = b"".join(image.tobytes() for image in images) + text.encode()
        tokens = list(hashlib.sha256(seen).digest()[:8]) + [0] * len(text.split())
        if len(tokens) > self.max_model_len:
            raise ValueError(f"The decoder prompt (length {len(tokens)}) is longer than the maximum model length")
        return tokens

    def _output(self, prompt: list[int], params: SamplingParams) -> RequestOutput:
        schema = params.structured_outputs and params.structured_outputs.json
        drawn = params.seed if params.temperature else 0
        words = ["{}"] if schema else [f"word{token}" for token in [*prompt[:5], drawn]]
        cut = len(words) >= params.max_tokens
        words = words[: params.max_tokens]
        written = CompletionOutput(
            index=0,
            text=" " + " ".join(words),
            token_ids=list(range(len(words) + (not cut))),
            finish_reason="length" if cut else "stop",
        )
        return RequestOutput(prompt_token_ids=prompt, outputs=[written])


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """`import vllm` gives this until the test ends."""
    vllm, sampling = ModuleType("vllm"), ModuleType("vllm.sampling_params")
    exceptions = ModuleType("vllm.v1.engine.exceptions")
    vllm.LLM, vllm.SamplingParams = LLM, SamplingParams  # type: ignore[attr-defined]
    sampling.StructuredOutputsParams = StructuredOutputsParams  # type: ignore[attr-defined]
    exceptions.EngineDeadError = EngineDeadError  # type: ignore[attr-defined]
    for module in (vllm, sampling, ModuleType("vllm.v1"), ModuleType("vllm.v1.engine"), exceptions):
        monkeypatch.setitem(sys.modules, module.__name__, module)
