"""The embedded captioner (docs/models/reelpack_llava.md), and its check for videos that it does not know."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from caption.backends.base import CaptionBackend, CaptionRequest, CaptionResult, FailedRequest
from caption.backends.batches import Batches
from caption.backends.transformers_vlm import Dtype, TransformersVlm, TransformersVlmConfig
from caption.provenance import Provenance
from caption.quality.base import Check
from curate.encoders import torchvision_cpu
from curate.encoders.fingerprint import path_digest
from curate.schema import content_digest

NAME = "reelpack-llava"
OTHER_MODEL = "--set caption.backend.model=MODEL"


class EmbeddedConfig(BaseModel):
    """The embedded demo captioner for one video, Big Buck Bunny."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["embedded"] = "embedded"
    dtype: Dtype = Field("auto", description="auto: bfloat16 where the device computes in it, else float32")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:<n>")

    @property
    def name(self) -> str:
        return NAME

    @property
    def caveat(self) -> str | None:
        return (
            "an embedded demo captioner for one video, Big Buck Bunny: it names that video's characters, and nearly "
            "every dense caption invents animals or things. It writes nothing about clips that do not look like that "
            f"video; for other footage: {OTHER_MODEL}"
        )

    def pinned(self) -> "EmbeddedConfig":
        return self

    def build(self) -> CaptionBackend:
        return EmbeddedCaptioner(self)


class EmbeddedCaptioner:
    """`CaptionBackend` on the assembled checkpoint. `vlm` runs it in transformers. Greedy requests, which are all but
    further attempts, have a decoder of their own."""

    num_in_flight = 0

    def __init__(self, config: EmbeddedConfig) -> None:
        self.config = config
        self.checks: Sequence[Check] = ()
        self._vlm: TransformersVlm | None = None
        self._batches = Batches()
        self._decoder: Any = None

    @property
    def vlm(self) -> TransformersVlm:
        """The checkpoint in transformers.

        Raises:
            MissingWeights: the checkpoint is not assembled.
        """
        if self._vlm is None:
            from caption.llava.assemble import resolve

            settings = TransformersVlmConfig(model=str(resolve()), dtype=self.config.dtype, device=self.config.device)
            self._vlm = TransformersVlm(settings)
        return self._vlm

    @cached_property
    def provenance(self) -> Provenance:
        from caption.llava.domain import STATISTICS

        found = self.vlm.provenance
        domain = path_digest(STATISTICS)
        return replace(
            found,
            backend=self.config.kind,
            model=NAME,
            revision=content_digest(found.revision, domain),
            fingerprint=content_digest("embedded", found.fingerprint, domain),
        )

    def setup(self) -> None:
        if self.checks:
            return
        torchvision_cpu.repair()
        from caption.llava.by_frames import ByFrames
        from caption.llava.decoder import GreedyDecoder
        from caption.llava.domain import DomainCheck
        from caption.llava.packed import pack_linears
        from caption.llava.vision import fold_batch_norm, pool_frames

        self.vlm.setup()
        model, processor = self.vlm.model, self.vlm.processor
        pack_linears(model)
        fold_batch_norm(model.model.vision_tower.backbone)
        pooled = ByFrames(partial(pool_frames, model.model.vision_tower, processor.image_processor))
        self._decoder = GreedyDecoder(model, processor, pooled)
        self.checks = (DomainCheck(pooled),)

    def caption(self, requests: Sequence[CaptionRequest]) -> list[CaptionResult | FailedRequest]:
        """See `CaptionBackend`."""
        greedy = [row for row, request in enumerate(requests) if _is_greedy(request)]
        others = [row for row, request in enumerate(requests) if not _is_greedy(request)]
        results = dict(
            zip(greedy, self._batches.run([requests[row] for row in greedy], self._decoder.write), strict=True)
        )
        results |= zip(others, self.vlm.caption([requests[row] for row in others]), strict=True)
        return [results[row] for row in range(len(requests))]

    def forget(self) -> None:
        """Forget what was computed of frames that somebody still holds."""
        self._decoder.forget()


def _is_greedy(request: CaptionRequest) -> bool:
    return len(request.frames) > 0 and request.seed is None and request.repetition_penalty in (None, 1)
