"""Stage: a group of kept clips → one shard, cut frame-exactly.

The unit of work is a whole tar, because a shard is written once: the driver groups clips, a worker cuts and writes.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from curate.media.apart import run_apart
from curate.media.cut import CutConfig, EncodedClip, cut_clip
from curate.media.fetch import local_copy
from curate.media.staging import DEFAULT, StagingConfig
from curate.schema import Clip, Failure, FailureKind, MediaError, Span, content_digest
from curate.shards.tar import Member, write_tar

CUT_VERSION = 2
"""Raised when equal settings would give other bytes than before."""
CLIP_LIMIT_S = 3600.0
"""For one clip of a shard over which workers died or hung."""


class ShardConfig(BaseModel):
    """How clips are encoded and grouped into shards."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encode: CutConfig = CutConfig()
    clips_per_shard: int = Field(256, ge=1, description="most clips in one tar")

    @property
    def key(self) -> str:
        """Names the encoding: clips that were cut with another key are cut again."""
        return content_digest("cut", str(CUT_VERSION), self.encode.model_dump_json())[:16]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardPlan:
    """One tar to be written.

    Attributes:
        clips: In order, each with the path or URL that its video is read from.
        sidecar: Clip id → the user's own columns.
        signed: URL → the same URL with its signature, which downloads need.
    """

    url: str
    split: str
    clips: tuple[Clip, ...]
    sidecar: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    signed: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class CutClip:
    """A clip in its shard: the location of its media member, and what was written."""

    clip_id: str
    member: Member
    num_frames: int
    width: int
    height: int
    fps: float
    duration_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardWritten:
    """A published tar, and the clips of its plan that could not be cut."""

    plan: ShardPlan
    clips: tuple[CutClip, ...]
    failures: tuple[Failure, ...]


class CutStage:
    """`process` maps each `ShardPlan` to its `ShardWritten`; a clip that cannot be cut is a failure inside it.

    Raises:
        OSError: the output cannot be written (disk full, no permission). This is a run-level error: the run stops.
    """

    step = "cut"

    def __init__(self, config: ShardConfig, staging: StagingConfig = DEFAULT) -> None:
        self.config = config
        self.staging = staging

    def setup(self) -> None:
        pass

    def process(self, items: Sequence[ShardPlan]) -> list[ShardWritten | Failure]:
        return [self._write(plan, cut_clip) for plan in items]

    def give_up(self, item: ShardPlan, kind: FailureKind, detail: str, attempts: int) -> ShardWritten:
        """The shard without the clips that kill a worker: each clip is cut in a process of its own."""
        return self._write(item, _cut_apart)

    def _write(self, plan: ShardPlan, cut: Callable[[str, Span, CutConfig], EncodedClip]) -> ShardWritten:
        encoded: dict[str, EncodedClip] = {}
        failures: list[Failure] = []

        def samples() -> Iterator[tuple[str, dict[str, bytes]]]:
            for clip in plan.clips:
                try:
                    address = plan.signed.get(clip.video_uri, clip.video_uri)
                    with local_copy(address, self.staging, version=clip.video_version) as path:
                        result = cut(path, clip.span, self.config.encode)
                except MediaError as error:
                    failures.append(error.failure(clip.clip_id, self.step))
                    continue
                encoded[clip.clip_id] = replace(result, data=b"")  # one clip in memory at a time
                yield (
                    clip.clip_id,
                    {result.ext: result.data, "json": _facts(clip, result, plan.sidecar.get(clip.clip_id, {}))},
                )

        members = {member.key: member for member in write_tar(plan.url, samples()) if member.ext != "json"}
        clips = tuple(_located(clip, encoded[clip.clip_id], members) for clip in plan.clips if clip.clip_id in encoded)
        return ShardWritten(plan=plan, clips=clips, failures=tuple(failures))


def _cut_apart(path: str, span: Span, config: CutConfig) -> EncodedClip:
    return run_apart(cut_clip, path, span, config, limit_s=CLIP_LIMIT_S)


def _located(clip: Clip, result: EncodedClip, members: dict[str, Member]) -> CutClip:
    return CutClip(
        clip_id=clip.clip_id,
        member=members[clip.clip_id],
        num_frames=result.num_frames,
        width=result.width,
        height=result.height,
        fps=float(result.fps),
        duration_s=result.duration_s,
    )


def _facts(clip: Clip, result: EncodedClip, sidecar: Mapping[str, Any]) -> bytes:
    """The sample's .json: what never changes about the clip, and the user's own columns as of the cut.

    What is computed later is stored in the dataset's tables.
    """
    facts = {
        "clip_id": clip.clip_id,
        "video_id": clip.video_id,
        "kind": clip.kind,
        "start_pts": clip.span.start_pts,
        "end_pts": clip.span.end_pts,
        "time_base": str(clip.span.time_base),
        "start_s": clip.span.start_s,
        "end_s": clip.span.end_s,
        "num_frames": result.num_frames,
        "width": result.width,
        "height": result.height,
        "fps": float(result.fps),
        **({"sidecar": sidecar} if sidecar else {}),
    }
    return json.dumps(facts, sort_keys=True, default=str).encode()
