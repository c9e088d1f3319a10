"""Stage: clips → caption records, through a caption backend."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from caption.backends.base import CaptionBackend, CaptionRequest, CaptionResult, FailedRequest
from caption.config import CaptionConfig
from caption.prompts import PROMPT_SETS
from caption.quality.base import Check
from caption.record import CaptionRecord, Finding, media_digest, status_of
from curate.dataset.captions import KINDS, USABLE, CaptionKind
from curate.media.decode import DecodedClip, decode_clip
from curate.schema import Failure, FailureKind, MediaError
from curate.shards.tar import TarReader

STEP = "caption"
MAX_HELD_BYTES = 48 << 20
"""Bytes of decoded frames per batch. One clip alone can exceed it."""

Outcome = tuple[CaptionRecord, ...] | Failure


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionItem:
    """A clip to caption: `size` bytes from `offset` of `shard`, with their digest; `kind` is `video` or `image`."""

    clip_id: str
    shard: str
    offset: int
    size: int
    kind: str
    digest: str | None = None


@dataclass(kw_only=True, slots=True)
class _Clip:
    """A decoded clip, and what is known of its captions so far."""

    item: CaptionItem
    digest: str
    decoded: DecodedClip
    findings: tuple[Finding, ...] = ()
    records: list[CaptionRecord] = field(default_factory=list)
    failure: Failure | None = None

    @property
    def is_asked(self) -> bool:
        return status_of(self.findings) in USABLE and self.failure is None


class CaptionStage:
    """A short and a dense caption per clip.

    Args:
        config: model, prompts, frames and checks.
        shards_root: folder of the shards, a local path or an fsspec URL.
    """

    step = STEP

    def __init__(self, config: CaptionConfig, shards_root: str) -> None:
        self.config = config
        self._reader = TarReader(shards_root)
        self._backend: CaptionBackend = config.backend.build()
        self._checks = config.checks.build()

    def setup(self) -> None:
        """Load the model, and what the checks need.

        Raises:
            MissingWeights: embedded weights are not there.
            ValueError: the model cannot be loaded.
        """
        self._backend.setup()
        for check in self._all_checks():
            check.setup()

    def process(self, items: Sequence[CaptionItem]) -> list[Outcome]:
        """The records of each clip, in order of `KINDS`, or why it has none."""
        outcomes: list[Outcome | None] = [None] * len(items)
        batch: dict[int, _Clip] = {}
        for row, item in enumerate(items):
            try:
                batch[row] = self._decode(item)
            except MediaError as error:
                outcomes[row] = error.failure(item.clip_id, STEP)
            except (OSError, ValueError) as error:  # the shard is missing or cut off
                outcomes[row] = Failure(subject=item.clip_id, step=STEP, kind=FailureKind.IO, detail=str(error))
            if sum(clip.decoded.rgb.nbytes for clip in batch.values()) >= MAX_HELD_BYTES or row == len(items) - 1:
                self._caption(list(batch.values()))
                for done, clip in batch.items():
                    outcomes[done] = clip.failure or tuple(clip.records)
                batch = {}
        return [outcome for outcome in outcomes if outcome is not None]

    def give_up(self, item: CaptionItem, kind: FailureKind, detail: str, attempts: int) -> Failure:
        return Failure(subject=item.clip_id, step=STEP, kind=kind, detail=detail, attempts=attempts)

    def _all_checks(self) -> Iterable[Check]:
        yield from self._checks
        yield from self._backend.checks

    def _decode(self, item: CaptionItem) -> _Clip:
        data = self._reader.read(item.shard, item.offset, item.size, key=item.clip_id, digest=item.digest)
        clip = decode_clip(data, num_frames=self.config.num_frames)
        return _Clip(item=item, digest=media_digest(data), decoded=clip)

    def _caption(self, clips: Sequence[_Clip]) -> None:
        """Give each clip its records, or its failure."""
        for clip in clips:
            clip.findings = self._of_frames(clip)
        for kind in KINDS:
            prompt, limit = PROMPT_SETS[self.config.prompts].of(kind).text, self.config.max_tokens(kind)
            asked = [clip for clip in clips if clip.is_asked]
            requests = [CaptionRequest(frames=clip.decoded.rgb, prompt=prompt, max_tokens=limit) for clip in asked]
            for clip in clips:
                if not clip.is_asked and clip.failure is None:
                    clip.records.append(self._record(clip, kind, None))
            for clip, result in zip(asked, self._backend.caption(requests) if requests else (), strict=True):
                if isinstance(result, FailedRequest):
                    clip.failure = self.give_up(clip.item, result.kind, f"{kind} caption: {result.detail}", 1)
                else:
                    clip.records.append(self._record(clip, kind, result))

    def _of_frames(self, clip: _Clip) -> tuple[Finding, ...]:
        """Findings before the model is asked, up to the first check that refuses the clip."""
        found: tuple[Finding, ...] = ()
        for check in self._all_checks():
            found += tuple(check.of_frames(clip.decoded.rgb))
            if status_of(found) not in USABLE:
                break
        return found

    def _record(self, clip: _Clip, kind: CaptionKind, result: CaptionResult | None) -> CaptionRecord:
        """The record of one caption with all findings; `result` None: the model was not asked."""
        prompt = PROMPT_SETS[self.config.prompts].of(kind)
        record = CaptionRecord(
            clip_id=clip.item.clip_id,
            media_digest=clip.digest,
            kind=kind,
            text=result.text if result else "",
            findings=clip.findings,
            finish_reason=result.finish_reason if result else "not_asked",
            provenance=self._backend.provenance,
            prompt_id=prompt.id,
            prompt_hash=prompt.digest,
            prompt_text=prompt.text,
            frame_indices=tuple(clip.decoded.indices.tolist()),
            frame_times_s=tuple(clip.decoded.pts_s.tolist()),
            max_tokens=self.config.max_tokens(kind),
            num_prompt_tokens=result.num_prompt_tokens if result else 0,
            num_output_tokens=result.num_output_tokens if result else 0,
        )
        if result is None:
            return record
        found = [finding for check in self._all_checks() for finding in check.of_caption(record, clip.decoded.rgb)]
        return replace(record, findings=(*record.findings, *found))
