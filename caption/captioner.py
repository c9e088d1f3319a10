"""Stage: clips → caption records, through a vision–language model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from caption.backends.base import CaptionBackend, CaptionRequest, CaptionResult
from caption.backends.transformers_config import TransformersVlmConfig
from caption.prompts import PROMPT_SETS
from caption.quality.visible import VisibleConfig, why_nothing_is_seen
from caption.record import CaptionRecord, media_digest
from curate.dataset.captions import KINDS, CaptionKind, CaptionStatus
from curate.encoders.fingerprint import major_versions
from curate.media.decode import DecodedClip, decode_clip
from curate.schema import Failure, FailureKind, MediaError, content_digest
from curate.shards.tar import TarReader

STEP = "caption"
KEY_HEX_DIGITS = 12
MAX_HELD_BYTES = 48 << 20
"""Frames that are held at a time, a clip's own aside: what fits goes through the model together."""

NOT_ASKED = CaptionResult(text="", finish_reason="not_asked", num_prompt_tokens=0, num_output_tokens=0)

BackendConfig = TransformersVlmConfig
"""A second runtime makes this `Annotated[TransformersVlmConfig | …, Field(discriminator="kind")]`."""


class CaptionConfig(BaseModel):
    """Which model captions, what it is shown and asked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: BackendConfig = BackendConfig()
    prompts: Literal["plain-v1", "detailed-v1"] = Field(
        "plain-v1",
        description="wording, see caption/prompts.py; detailed-v1 is for models of 2 B weights and up",
    )
    visible: VisibleConfig = VisibleConfig()
    num_frames: int = Field(4, ge=1, description="frames per clip, at the middles of equal parts")
    short_max_tokens: int = Field(32, ge=1, description="most tokens of a short caption")
    dense_max_tokens: int = Field(96, ge=1, description="most tokens of a dense caption; raise it for larger models")
    batch_size: int = Field(16, ge=1, description="clips that go through the model together")

    @property
    def name(self) -> str:
        return self.backend.name

    def pinned(self) -> "CaptionConfig":
        """The same with the commit that a hub id means now, see `TransformersVlmConfig.pinned`."""
        return self.model_copy(update={"backend": self.backend.pinned()})

    @cached_property
    def key(self) -> str:
        """Names the function clip → captions: model weights, decoding, prompts and frames. Batch size does not count.

        Raises:
            MissingWeights: weights that the digest is taken of are not there.
        """
        backend = self.backend.build()
        prompts = PROMPT_SETS[self.prompts]
        return content_digest(
            "caption",
            backend.weights_id,
            self.backend.model_dump_json(exclude={"device", "model", "revision"}),
            self.visible.model_dump_json(),
            major_versions("transformers"),
            *(prompts.of(kind).digest for kind in KINDS),
            *(str(number) for number in (self.num_frames, self.short_max_tokens, self.dense_max_tokens)),
        )[:KEY_HEX_DIGITS]

    def max_tokens(self, kind: CaptionKind) -> int:
        return self.short_max_tokens if kind == "short" else self.dense_max_tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionItem:
    """A clip to caption: `size` bytes from `offset` of `shard`, with their digest; `kind` is `video` or `image`."""

    clip_id: str
    shard: str
    offset: int
    size: int
    kind: str
    digest: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shown:
    """One clip that could be decoded."""

    item: CaptionItem
    digest: str
    clip: DecodedClip


class CaptionStage:
    """A short and a dense caption per clip.

    Args:
        config: which model, what it is shown and asked.
        shards_root: folder of the shards, a local path or an fsspec URL.
    """

    step = STEP

    def __init__(self, config: CaptionConfig, shards_root: str) -> None:
        self.config = config
        self._reader = TarReader(shards_root)
        self._backend: CaptionBackend = config.backend.build()

    def setup(self) -> None:
        """Load the model.

        Raises:
            MissingWeights: embedded weights that are not there.
            ValueError: the model cannot be loaded.
        """
        self._backend.setup()

    def process(self, items: Sequence[CaptionItem]) -> list[tuple[CaptionRecord, ...] | Failure]:
        """The records of each clip, in order of `KINDS`, or why it has none."""
        outcomes: dict[int, tuple[CaptionRecord, ...] | Failure] = {}
        shown: dict[int, _Shown] = {}
        for row, item in enumerate(items):
            try:
                shown[row] = self._show(item)
            except MediaError as error:
                outcomes[row] = error.failure(item.clip_id, STEP)
            except (OSError, ValueError) as error:  # the shard is missing or cut off
                outcomes[row] = Failure(subject=item.clip_id, step=STEP, kind=FailureKind.IO, detail=str(error))
            if sum(one.clip.rgb.nbytes for one in shown.values()) >= MAX_HELD_BYTES:
                outcomes |= self._caption(shown)
                shown = {}
        outcomes |= self._caption(shown)
        return [outcomes[row] for row in range(len(items))]

    def give_up(self, item: CaptionItem, kind: FailureKind, detail: str, attempts: int) -> Failure:
        return Failure(subject=item.clip_id, step=STEP, kind=kind, detail=detail, attempts=attempts)

    def _show(self, item: CaptionItem) -> _Shown:
        data = self._reader.read(item.shard, item.offset, item.size, key=item.clip_id, digest=item.digest)
        clip = decode_clip(data, num_frames=self.config.num_frames)
        return _Shown(item=item, digest=media_digest(data), clip=clip)

    def _caption(self, shown: Mapping[int, _Shown]) -> dict[int, tuple[CaptionRecord, ...]]:
        """The records of each clip, by its row. Those that the model cannot know are refused before it is asked."""
        refused = {
            row: (CaptionStatus.BLANK, reason)
            for row, one in shown.items()
            if (reason := why_nothing_is_seen(one.clip.rgb, self.config.visible))
        }
        asked = [row for row in shown if row not in refused]
        for row, reason in zip(asked, self._backend.unsure([shown[row].clip.rgb for row in asked]), strict=True):
            if reason:
                refused[row] = (CaptionStatus.UNSURE, reason)
        asked = [row for row in asked if row not in refused]
        records: dict[int, list[CaptionRecord]] = {row: [] for row in shown}
        for kind in KINDS:
            for row, (status, reason) in refused.items():
                records[row].append(self._record(shown[row], kind, NOT_ASKED, status, reason))
            prompt, limit = PROMPT_SETS[self.config.prompts].of(kind), self.config.max_tokens(kind)
            requests = [
                CaptionRequest(frames=shown[row].clip.rgb, prompt=prompt.text, max_tokens=limit) for row in asked
            ]
            for row, result in zip(asked, self._backend.caption(requests), strict=True):
                records[row].append(self._record(shown[row], kind, result, *_judge(result, limit)))
        return {row: tuple(of_clip) for row, of_clip in records.items()}

    def _record(
        self, shown: _Shown, kind: CaptionKind, result: CaptionResult, status: CaptionStatus, reason: str | None
    ) -> CaptionRecord:
        prompt = PROMPT_SETS[self.config.prompts].of(kind)
        sampling = self._backend.sampling
        return CaptionRecord(
            clip_id=shown.item.clip_id,
            media_digest=shown.digest,
            kind=kind,
            text=result.text,
            status=status,
            reason=reason,
            finish_reason=result.finish_reason,
            model=self.config.backend.model,
            weights=self._backend.weights_id,
            prompt_id=prompt.id,
            prompt_hash=prompt.digest,
            prompt_text=prompt.text,
            frame_indices=tuple(shown.clip.indices.tolist()),
            frame_times_s=tuple(shown.clip.pts_s.tolist()),
            sampling=json.dumps({**sampling, "max_new_tokens": self.config.max_tokens(kind)}, sort_keys=True),
            num_prompt_tokens=result.num_prompt_tokens,
            num_output_tokens=result.num_output_tokens,
            seed=self.config.backend.seed if sampling["do_sample"] else None,
            libraries=json.dumps(self._backend.libraries, sort_keys=True),
        )


def _judge(result: CaptionResult, limit: int) -> tuple[CaptionStatus, str | None]:
    if not result.text:
        return CaptionStatus.EMPTY, "the model wrote nothing"
    if result.finish_reason == "length":
        return CaptionStatus.TRUNCATED, f"not finished after {limit} tokens"
    return CaptionStatus.OK, None
