"""Stages: kept clips → pieces of shards, cut frame-exactly; pieces → shards.

The unit of work is a piece: some clips that follow each other in a shard, and mostly in a film, which is decoded once
for all of them. A shard is written when its pieces are there, and its bytes do not depend on who made them.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from curate.media.apart import run_apart
from curate.media.cut import CutConfig, EncodedClip, cut_clip, cut_clips
from curate.media.fetch import local_copy
from curate.media.staging import DEFAULT, StagingConfig
from curate.schema import Clip, Failure, FailureKind, MediaError, Span, content_digest
from curate.shards.pieces import CutClip, end_piece, join_pieces, read_piece
from curate.shards.tar import write_sample
from curate.storage.publish import publish

CUT_VERSION = 3
"""Raised when equal settings would give other bytes than before."""
CLIP_LIMIT_S = 3600.0
"""For one clip of a piece over which workers died or hung."""
PIECE_FRAMES = 600
"""Most frames in a piece of several clips: seconds of work, which is what a kill loses."""

Cut = Callable[[str, Sequence[Span], CutConfig], Iterator[EncodedClip | MediaError]]


class ShardConfig(BaseModel):
    """How clips are encoded and grouped into shards."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encode: CutConfig = CutConfig()
    clips_per_shard: int = Field(256, ge=1, description="most clips in one tar")

    @property
    def key(self) -> str:
        """Names the encoding: clips that were cut with another key are cut again."""
        kept = ["whole files as they are"] if self.encode.mode == "copy" else []
        return content_digest("cut", str(CUT_VERSION), self.encode.model_dump_json(), *kept)[:16]


@dataclass(frozen=True, kw_only=True, slots=True)
class PiecePlan:
    """Clips to be cut.

    Attributes:
        url: Of the piece to be written.
        clips: In order, each with the path or URL that its video is read from.
        sidecar: Clip id → the user's own columns.
        signed: URL → the same URL with its signature, which downloads need.
    """

    url: str
    clips: tuple[Clip, ...]
    sidecar: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    signed: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def num_frames(self) -> int:
        return sum(clip.num_frames for clip in self.clips)


@dataclass(frozen=True, kw_only=True, slots=True)
class PieceWritten:
    """A published piece lacks the clips that could not be cut."""

    failures: tuple[Failure, ...]


def plan_pieces(
    folder: str, clips: Sequence[Clip], sidecar: Mapping[str, Mapping[str, Any]], signed: Mapping[str, str], key: str
) -> list[PiecePlan]:
    """The pieces of one shard. Their names say what they are made of.

    Args:
        folder: for the pieces.
        clips: of the shard, in order.
        sidecar: clip id → the user's own columns.
        signed: URL → the same URL with its signature.
        key: names the settings of the encoder.
    """
    groups: list[list[Clip]] = []
    room = 0
    for clip in clips:
        if clip.num_frames > room:
            groups.append([])
            room = PIECE_FRAMES
        groups[-1].append(clip)
        room -= clip.num_frames
    plans = []
    for group in groups:
        own = {clip.clip_id: sidecar[clip.clip_id] for clip in group if clip.clip_id in sidecar}
        name = content_digest(key, *(clip.clip_id for clip in group), json.dumps(own, sort_keys=True, default=str))
        urls = {clip.video_uri: signed[clip.video_uri] for clip in group if clip.video_uri in signed}
        plans.append(PiecePlan(url=f"{folder}/{name}", clips=tuple(group), sidecar=own, signed=urls))
    return plans


class CutStage:
    """`process` maps each `PiecePlan` to its `PieceWritten`; a clip that cannot be cut is a failure inside it. A piece
    that an earlier run wrote whole is left as it is.

    Raises:
        OSError: the output cannot be written (disk full, no permission). This is a run-level error: the run stops.
    """

    step = "cut"

    def __init__(self, config: ShardConfig, staging: StagingConfig = DEFAULT) -> None:
        self.config = config
        self.staging = staging

    def setup(self) -> None:
        pass

    def process(self, items: Sequence[PiecePlan]) -> list[PieceWritten | Failure]:
        return [self._write(plan, cut_clips) for plan in items]

    def give_up(self, item: PiecePlan, kind: FailureKind, detail: str, attempts: int) -> PieceWritten:
        """The piece without the clips that kill a worker: each clip is cut in a process of its own."""
        return self._write(item, _cut_apart)

    def _write(self, plan: PiecePlan, cut: Cut) -> PieceWritten:
        there = read_piece(plan.url)
        if there is not None and len(there) == len(plan.clips):
            return PieceWritten(failures=())
        failures: list[Failure] = []
        clips: list[CutClip] = []
        with publish(plan.url) as file:
            for clip, result in self._results(plan, cut):
                if isinstance(result, MediaError):
                    failures.append(result.failure(clip.clip_id, self.step))
                    continue
                facts = _facts(clip, result, plan.sidecar.get(clip.clip_id, {}))
                members = write_sample(file, "", clip.clip_id, {result.ext: result.data, "json": facts})
                clips.append(
                    CutClip(
                        clip_id=clip.clip_id,
                        member=members[0],
                        num_frames=result.num_frames,
                        width=result.written.width,
                        height=result.written.height,
                        codec=result.written.codec,
                        pixel_format=result.written.pixel_format,
                        color_transfer=result.written.color_transfer,
                        fps=float(result.fps),
                        duration_s=result.duration_s,
                        start_pts=result.span.start_pts,
                        end_pts=result.span.end_pts,
                        **_sound_facts(result),
                    )
                )
            end_piece(file, clips)
        return PieceWritten(failures=tuple(failures))

    def _results(self, plan: PiecePlan, cut: Cut) -> Iterator[tuple[Clip, EncodedClip | MediaError]]:
        """Each clip of the plan with what became of it. Clips of one file that follow each other are held together,
        since none of them counts if the file changes meanwhile."""
        for (uri, version, _), group in groupby(plan.clips, _source):
            clips = list(group)
            try:
                with local_copy(plan.signed.get(uri, uri), self.staging, version=version) as path:
                    results = list(cut(path, [clip.span for clip in clips], self.config.encode))
            except MediaError as error:
                results = [error] * len(clips)
            yield from zip(clips, results, strict=True)


def _source(clip: Clip) -> tuple[Any, ...]:
    return clip.video_uri, clip.video_version, clip.span.time_base


def _cut_apart(path: str, spans: Sequence[Span], config: CutConfig) -> Iterator[EncodedClip | MediaError]:
    for span in spans:
        try:
            yield run_apart(cut_clip, path, span, config, limit_s=CLIP_LIMIT_S)
        except MediaError as error:
            yield error


def _sound_facts(result: EncodedClip) -> dict[str, Any]:
    if result.sound is None:
        return {}
    return {
        "audio_codec": result.sound.codec,
        "audio_channels": result.sound.channels,
        "audio_rate": result.sound.rate,
        "audio_s": round(result.sound_s, 6),
    }


def _facts(clip: Clip, result: EncodedClip, sidecar: Mapping[str, Any]) -> bytes:
    """The sample's .json: what never changes about the clip, and the user's own columns as of the cut.

    What is computed later is stored in the dataset's tables.
    """
    facts = {
        "clip_id": clip.clip_id,
        "video_id": clip.video_id,
        "kind": clip.kind,
        "start_pts": result.span.start_pts,
        "end_pts": result.span.end_pts,
        "time_base": str(result.span.time_base),
        "start_s": result.span.start_s,
        "end_s": result.span.end_s,
        "num_frames": result.num_frames,
        "width": result.written.width,
        "height": result.written.height,
        "fps": float(result.fps),
        **_sound_facts(result),
        **({"sidecar": sidecar} if sidecar else {}),
    }
    return json.dumps(facts, sort_keys=True, default=str).encode()


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardPlan:
    """One tar to be put together of its pieces."""

    url: str
    split: str
    pieces: tuple[PiecePlan, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardWritten:
    """A published tar."""

    clips: tuple[CutClip, ...]


class JoinStage:
    """`process` maps each `ShardPlan` to its `ShardWritten`.

    Raises:
        OSError: a piece is gone, or the output cannot be written. This is a run-level error: the run stops.
    """

    step = "join"

    def setup(self) -> None:
        pass

    def process(self, items: Sequence[ShardPlan]) -> list[ShardWritten]:
        return [ShardWritten(clips=join_pieces(plan.url, [piece.url for piece in plan.pieces])) for plan in items]

    def give_up(self, item: ShardPlan, kind: FailureKind, detail: str, attempts: int) -> ShardWritten:
        """The shard all the same: nothing of the inputs can be to blame."""
        return self.process([item])[0]
