"""Vision–language models in vLLM, in this process: the engine batches the requests by itself."""

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

from pydantic import Field

from caption.backends.base import CaptionBackend, CaptionRequest, CaptionResult, FailedRequest
from caption.backends.hub_model import HubModelConfig
from caption.backends.thinking import without_thinking
from caption.provenance import Provenance
from caption.quality.base import Check
from curate.encoders.fingerprint import library_versions, major_versions, path_digest
from curate.schema import FailureKind, content_digest


class VllmConfig(HubModelConfig):
    """A vision–language model in vLLM, and how it decodes."""

    kind: Literal["vllm"] = "vllm"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="auto: the checkpoint's")
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs of one worker; execute.gpus_per_worker is the same")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="fraction of a GPU's memory that vLLM takes")
    max_model_len: int | None = Field(
        None, ge=1, description="tokens of prompt, images and text; none: as many as the model has"
    )
    max_images: int = Field(32, ge=1, description="images of one request at most; vLLM keeps memory for so many")
    temperature: float = Field(0.0, ge=0, description="0 is greedy: the same clip gives the same caption")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus of the sampling, for a temperature above 0")
    repetition_penalty: float = Field(1.0, gt=0, description="above 1 makes tokens that were written less likely")
    seed: int = Field(0, description="of the sampling, for a temperature above 0")
    trust_remote_code: bool = Field(False, description="run code that comes with a hub id or folder")

    def build(self) -> CaptionBackend:
        return Vllm(self)


class Vllm:
    """`CaptionBackend` on vLLM's `LLM.chat`. Its kernels can differ in the last bits from batch to batch."""

    checks: Sequence[Check] = ()
    num_in_flight = 0

    def __init__(self, config: VllmConfig) -> None:
        self.config = config
        self._engine: Any = None

    @cached_property
    def provenance(self) -> Provenance:
        """See `CaptionBackend`. A folder's revision is the digest of its files."""
        config = self.config
        revision = path_digest(config.folder) if config.folder else f"{config.model}@{config.pinned().revision}"
        decides = ("dtype", "max_model_len", "temperature", "top_p", "repetition_penalty", "trust_remote_code")
        parameters = {name: getattr(config, name) for name in decides}
        seed = config.seed if config.temperature > 0 else None
        return Provenance(
            backend=config.kind,
            model=config.model,
            revision=revision,
            fingerprint=content_digest(
                "vllm", revision, json.dumps(parameters, sort_keys=True), str(seed), major_versions("vllm")
            ),
            parameters=parameters,
            seed=seed,
            libraries=library_versions("vllm", "transformers", "torch"),
        )

    def setup(self) -> None:
        """See `CaptionBackend`.

        Raises:
            ValueError: vLLM is not installed, or cannot load the model.
        """
        if self._engine is not None:
            return
        config = self.config.pinned()
        try:
            from vllm import LLM
        except ImportError as error:
            raise ValueError(
                f"caption.backend.kind=vllm: vLLM cannot be imported ({error}); `pip install 'reelpack[vllm]'`, in an "
                "environment of its own: its transformers is an earlier one than that of reelpack[caption]"
            ) from error
        try:
            self._engine = LLM(
                model=str(config.folder or config.model),
                revision=None if config.folder else config.revision,
                dtype=config.dtype,
                tensor_parallel_size=config.tensor_parallel_size,
                gpu_memory_utilization=config.gpu_memory_utilization,
                max_model_len=config.max_model_len,
                limit_mm_per_prompt={"image": config.max_images},
                generation_config="vllm",  # not what the checkpoint recommends: as the settings say
                trust_remote_code=config.trust_remote_code,
            )
        except (ValueError, RuntimeError, OSError) as error:
            raise ValueError(f"caption model {config.model!r}: vLLM cannot load it: {error}") from error

    def caption(self, requests: Sequence[CaptionRequest]) -> list[CaptionResult | FailedRequest]:
        """See `CaptionBackend`. One call of the engine; where it refuses, each request gets a call of its own.

        Raises:
            EngineDeadError: the engine's process ended.
        """
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            outputs = self._engine.chat(
                [_conversation(request) for request in requests],
                sampling_params=[self._sampling(request) for request in requests],
                use_tqdm=False,
            )
        except EngineDeadError:
            raise
        # What vLLM raises on a request that it cannot take: a prompt that is too long, a schema, an image, memory.
        except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:
            if len(requests) > 1:
                return [outcome for request in requests for outcome in self.caption([request])]
            return [FailedRequest(kind=FailureKind.MODEL, detail=f"vLLM: {type(error).__name__}: {error}")]
        return [_outcome(output) for output in outputs]

    def _sampling(self, request: CaptionRequest) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        config = self.config
        temperature = request.sampling_temperature(config.temperature)
        return SamplingParams(
            max_tokens=request.max_tokens,
            temperature=temperature,
            top_p=config.top_p if temperature else 1.0,
            seed=request.sampling_seed(config.seed) if temperature else None,
            repetition_penalty=request.repetition_penalty or config.repetition_penalty,
            structured_outputs=StructuredOutputsParams(json=dict(request.schema)) if request.schema else None,
        )


def _conversation(request: CaptionRequest) -> list[dict[str, Any]]:
    from PIL import Image

    images = [{"type": "image_pil", "image_pil": Image.fromarray(frame)} for frame in request.frames]
    return [{"role": "user", "content": [*images, {"type": "text", "text": request.prompt}]}]


def _outcome(output: Any) -> CaptionResult | FailedRequest:
    """Of one of vLLM's `RequestOutput`s."""
    written = output.outputs[0]
    if written.finish_reason not in ("stop", "length"):
        return FailedRequest(kind=FailureKind.MODEL, detail=f"vLLM ended the text by {written.finish_reason!r}")
    return CaptionResult(
        text=without_thinking(written.text),
        finish_reason=written.finish_reason,
        num_prompt_tokens=len(output.prompt_token_ids or ()),
        num_output_tokens=len(written.token_ids),
    )
