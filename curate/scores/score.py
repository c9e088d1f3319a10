"""Stage: clips → scores. Decodes each clip's sampled frames once, for all scorers whose value is pending."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import pyarrow as pa

from curate.encoders.base import EncoderPool
from curate.media.counter import frames_decoded
from curate.media.readers.config import MediaConfig
from curate.media.readers.frames import FrameReader
from curate.media.sound import Sound, read_sound
from curate.schema import Clip, Failure, FailureKind, MediaError, content_digest
from curate.scores.base import Scorer, ScorerSettings, Value
from curate.scores.config import ScoreConfig
from curate.scores.frames import ClipFrames
from curate.select import SelectConfig, broken

STEP = "score"
KEY_HEX_DIGITS = 12
TEXT_DIGEST = "text_digest"
"""Column of a family's table: which text of the user a row's values are of."""
SCORE_DIGITS = 5
"""Decimals that are kept of a number: what follows differs from one kind of processor to the next."""

CLIP_ERRORS = (RuntimeError, ValueError, ArithmeticError, LookupError, MemoryError, MediaError)
"""What models, image libraries and sound tracks raise for a clip that they cannot process; OpenCV has an error of its
own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreItem:
    """A clip to score.

    Attributes:
        path: Its video, on this machine.
        version: Version of the video's bytes; None accepts any.
        families: Score families that are pending; None is all.
        known: Its signals, stored scores and own columns by column, which early exit judges.
        texts: Column of the user → the text that scorers read.
    """

    clip: Clip
    path: str
    version: str | None = None
    families: frozenset[str] | None = None
    known: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """What the scorers gave for one clip. `num_decoded_frames` counts what was decoded for them, between the
    sampled frames too.

    Attributes:
        values: family → column → value. After an early exit, pending families can be missing.
        failures: one per family whose scorer failed on this clip; `step` is the family.
        fallback: why PyAV read its frames instead of the chosen reader; None where that did not happen.
    """

    clip_id: str
    values: Mapping[str, Mapping[str, Value]]
    failures: tuple[Failure, ...] = ()
    fallback: str | None = None
    num_decoded_frames: int


class ScoreStage:
    """One sampled decode per clip, then every scorer on the frames of all clips of the batch.

    Args:
        config: the scorers and their frames.
        policy: what an early exit consults.
        media: what reads the frames; None: the defaults.
    """

    step = STEP

    def __init__(
        self, config: ScoreConfig, policy: SelectConfig | None = None, media: MediaConfig | None = None
    ) -> None:
        self.config = config
        self._reader = (media or MediaConfig()).build()
        self.policy = policy or SelectConfig()
        self._scorers: tuple[tuple[ScorerSettings, Scorer], ...] = tuple(
            (scorer, scorer.build()) for scorer in config.complete().values()
        )

    @cached_property
    def families(self) -> dict[str, dict[str, pa.DataType]]:
        """Family → its columns and their Arrow types. A family, `<name>-<hash>`, is what a table holds: a scorer with
        its parameters and weights, on frames sampled in this way. Needs no `setup`.

        Raises:
            MissingWeights: weights that the digests are taken of are not there.
        """
        return {
            family: {name: column.type for name, column in settings.columns.items()}
            | ({TEXT_DIGEST: pa.string()} if family in self.reads else {})
            for family, (settings, _) in self._by_family.items()
        }

    @cached_property
    def reads(self) -> dict[str, str]:
        """Family → the user's column whose text it reads."""
        columns = self.config.reads
        kinds = {family: settings.kind for family, (settings, _) in self._by_family.items()}
        return {family: columns[kind] for family, kind in kinds.items() if kind in columns}

    @cached_property
    def _by_family(self) -> dict[str, tuple[ScorerSettings, Scorer]]:
        frames = [str(self.config.num_frames), str(self.config.short_side_px)]
        frames += ["deinterlaced"] if self.config.deinterlace else []
        frames += [self._reader.key] if self._reader.key else []
        return {
            f"{settings.kind}-{content_digest(scorer.key, *frames)[:KEY_HEX_DIGITS]}": (settings, scorer)
            for settings, scorer in self._scorers
        }

    def setup(self) -> None:
        """Load the reader, and the weights of every scorer; what several of them use is loaded once."""
        self._reader.setup()
        encoders = EncoderPool()
        with one_thread():
            for _, scorer in self._scorers:
                scorer.setup(encoders)

    def process(self, items: Sequence[ScoreItem]) -> list[Scored | Failure]:
        """Score each clip, in order. A clip without pending families, or rejected by early exit, is not decoded.

        A clip that cannot be decoded is a `Failure` of this step; one that a scorer fails on keeps the other values.
        """
        jobs = [_Job(item, set(self._by_family) if item.families is None else set(item.families)) for item in items]
        with one_thread():
            for family, (_, scorer) in self._by_family.items():
                self._run(family, scorer, [job for job in jobs if family in job.pending])
        return [job.outcome() for job in jobs]

    def give_up(self, item: ScoreItem, kind: FailureKind, detail: str, attempts: int) -> Failure:
        return Failure(subject=item.clip.clip_id, step=STEP, kind=kind, detail=detail, attempts=attempts)

    def _run(self, family: str, scorer: Scorer, jobs: Sequence["_Job"]) -> None:
        """One scorer on the clips whose values of it are pending."""
        ready = [job for job in jobs if not self._is_rejected(job) and job.decode(self.config, self._reader)]
        clips = [job.frames for job in ready if job.frames is not None]
        for job, result in zip(ready, contained(scorer, clips), strict=True):
            job.take(family, result, self.reads.get(family))

    def _is_rejected(self, job: "_Job") -> bool:
        return self.config.early_exit and bool(broken(job.known, job.item.clip.kind, self.policy))


class _Job:
    """A clip on its way through the scorers."""

    def __init__(self, item: ScoreItem, pending: set[str]) -> None:
        self.item = item
        self.pending = pending
        self.known = dict(item.known)
        self.frames: ClipFrames | None = None
        self._undecodable: Failure | None = None
        self._values: dict[str, dict[str, Value]] = {}
        self._failures: list[Failure] = []
        self._num_decoded = 0
        self._fallback: str | None = None

    def decode(self, config: ScoreConfig, reader: FrameReader) -> bool:
        """Whether there are frames; they are decoded for the first scorer that asks."""
        if self.frames is None and self._undecodable is None:
            clip = self.item.clip
            count = min(config.num_frames, clip.num_frames)
            try:
                before = frames_decoded()
                sampled, self._fallback = reader.sample(
                    self.item.path,
                    clip.span,
                    count,
                    short_side_px=config.short_side_px,
                    deinterlace=config.deinterlace,
                )
                sound = partial(_sound, self.item.path, clip)
                self.frames = ClipFrames(sampled.rgb, clip.span.duration_s, sound, self.item.texts)
                self._num_decoded = frames_decoded() - before
            except MediaError as error:
                self._undecodable = error.failure(clip.clip_id, STEP)
        return self.frames is not None

    def take(self, family: str, result: dict[str, Value] | Exception, column: str | None) -> None:
        """Keep the values, and which text of the user's `column` they are of. NaN and infinity are a failure of the
        scorer: they would pass rules by accident."""
        if isinstance(result, Exception):
            self._fail(family, f"{type(result).__name__}: {result}")
        elif bad := {column: value for column, value in result.items() if not _is_finite(value)}:
            self._fail(family, f"gave {bad}")
        else:
            rounded = {column: _rounded(value) for column, value in result.items()}
            digest = {TEXT_DIGEST: text_digest(self.item.texts.get(column))} if column else {}
            self._values[family] = {**rounded, **digest}
            self.known |= {column: value for column, value in rounded.items() if not isinstance(value, list)}

    def _fail(self, family: str, detail: str) -> None:
        self._failures.append(
            Failure(subject=self.item.clip.clip_id, step=family, kind=FailureKind.MODEL, detail=detail)
        )

    def outcome(self) -> Scored | Failure:
        return self._undecodable or Scored(
            clip_id=self.item.clip.clip_id,
            values=self._values,
            failures=tuple(self._failures),
            fallback=self._fallback,
            num_decoded_frames=self._num_decoded,
        )


def text_digest(text: str | None) -> str:
    """Names a text of the user; "" where there is none."""
    return content_digest(text)[:KEY_HEX_DIGITS] if text else ""


def contained(scorer: Scorer, clips: Sequence[ClipFrames]) -> list[dict[str, Value] | Exception]:
    """The scorer's values of each clip, or the exception that it raised over this clip alone.

    A batch that fails is tried again in halves: this finds the clips that fail, and a batch that is too large for the
    GPU succeeds.

    Raises:
        RuntimeError: torch's AcceleratorError: the GPU is in an error state, and this process can no longer use it.
    """
    import cv2
    import torch

    if not clips:
        return []
    try:
        return list(scorer.score(clips))
    except torch.AcceleratorError:
        raise
    except (*CLIP_ERRORS, cv2.error) as error:
        if len(clips) == 1:
            return [error.with_traceback(None)]  # its stack frames reference images
    half = len(clips) // 2
    return [*contained(scorer, clips[:half]), *contained(scorer, clips[half:])]


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch and OpenCV on one thread.

    On several threads torch adds in another order, and a worker would store other last bits than a laptop. Clips are
    spread over processes, so no core is idle.
    """
    import cv2
    import torch

    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _sound(path: str, clip: Clip) -> Sound | None:
    return read_sound(path, clip.span) if clip.kind == "video" else None


def _is_finite(value: Value) -> bool:
    numbers = value if isinstance(value, list) else [] if isinstance(value, str) else [value]
    return all(map(math.isfinite, numbers))


def _rounded(value: Value) -> Value:
    """Numbers lose what is noise; a scorer rounds its vectors itself."""
    return value if isinstance(value, (list, str)) else round(float(value), SCORE_DIGITS)
