"""The captions of one clip, as a generator: it yields what a model is to be asked, and is sent the answers.

Levels come in the order of the prompts, each with its attempts: the checks' findings name remedies, and the next
attempt applies them. Levels that need no other level's text are asked together. Which clips are asked together is not
decided here, see `caption.captioner`.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TypeVar

import numpy as np

from caption.backends.base import NO_FRAMES, CaptionBackend, CaptionRequest, CaptionResult, FailedRequest
from caption.compose import COMPOSER, compose, short_of
from caption.config import CaptionConfig
from caption.facts import Facts
from caption.fields import FIELDS_SCHEMA, CaptionFields, salvage
from caption.frames import WindowFrames
from caption.item import Ask, Captioned, DecodedItem
from caption.prompts import Prompt
from caption.provenance import Provenance
from caption.quality.base import Check, Evidence
from caption.record import Attempt, CaptionRecord, Finding, Window, rank_of, status_of
from caption.remedies import Change
from curate.dataset.captions import USABLE, CaptionLevel, text_id
from curate.media.decode import middles
from curate.schema import Failure, MediaError, content_digest

STEP = "caption"
Answer = CaptionResult | FailedRequest
Captioning = Generator[tuple[Ask, ...], Sequence[Answer], Captioned]
"""Asks and answers are in one order; the first thing that is sent is None."""
Result = TypeVar("Result")


@dataclass(kw_only=True, slots=True)
class _Known:
    """What the prompts of a clip are given, and what its captions are checked against."""

    facts: Facts
    original: str | None
    fields: CaptionFields | None = None
    refused: tuple[Finding, ...] = ()

    def placeholders(self) -> Mapping[str, str]:
        fields_text = "" if self.fields is None else self.fields.to_json()
        return {"facts": self.facts.sentence(), "original": self.original or "", "fields": fields_text}


class ClipCaptioner:
    """Makes the records of a clip.

    Args:
        config: prompts, limits, attempts.
        backend: the model, for its name in the records; `fallback`: the second one.
        checks: in the order in which they run.
    """

    def __init__(
        self,
        config: CaptionConfig,
        backend: CaptionBackend,
        fallback: CaptionBackend | None,
        checks: Callable[[], Iterable[Check]],
    ) -> None:
        self.config, self.prompts = config, config.prompt_set
        self.backend, self.fallback, self.checks = backend, fallback, checks

    def captions(self, clip: DecodedItem) -> Captioning:
        """The records of all levels of the item, in the order of the prompts; then the variants."""
        captioning, num_prompt, num_output = self._captions(clip), 0, 0
        answers: Sequence[Answer] | None = None
        while True:
            try:
                asks = next(captioning) if answers is None else captioning.send(answers)
            except StopIteration as done:
                made: Captioned = done.value
                return replace(made, num_prompt_tokens=num_prompt, num_output_tokens=num_output)
            answers = yield asks
            written = [answer for answer in answers if isinstance(answer, CaptionResult)]
            num_prompt += sum(answer.num_prompt_tokens for answer in written)
            num_output += sum(answer.num_output_tokens for answer in written)

    def _captions(self, clip: DecodedItem) -> Captioning:
        item = clip.item
        known = _Known(facts=item.facts, original=item.original, fields=salvage(item.fields or "").fields)
        known.refused = self._of_frames(clip)
        records: list[CaptionRecord] = []
        failures: list[Failure] = []
        wanted = [one for one in self.prompts.prompts if item.levels is None or one.level in item.levels]
        for _, prompts in groupby(wanted, lambda prompt: prompt.level == "fields"):
            made = yield from _together([self._level(clip, prompt, known) for prompt in prompts])
            records += [one for one in made if isinstance(one, CaptionRecord)]
            failures += [one for one in made if isinstance(one, Failure)]
            if records and records[-1].level == "fields" and records[-1].status in USABLE:
                known.fields = salvage(records[-1].text).fields
        made_all = (*records, *self._variants(clip, known))
        return Captioned(records=made_all, failures=tuple(failures), fallback=clip.fallback)

    def _of_frames(self, clip: DecodedItem) -> tuple[Finding, ...]:
        """Findings before the model is asked, up to the first check that refuses the clip."""
        found: tuple[Finding, ...] = ()
        for check in self.checks():
            found += tuple(check.of_frames(clip.frames))
            if status_of(found) not in USABLE:
                break
        return found

    def _level(
        self, clip: DecodedItem, prompt: Prompt, known: _Known
    ) -> Generator[Ask, Answer, CaptionRecord | Failure]:
        """One caption: the best of its attempts, or what is composed of the fields where none is usable."""
        if status_of(known.refused) not in USABLE:
            return self._record(clip, prompt, known, Change(), None, 0)
        earlier = clip.item.earlier.get(prompt.level, ())
        before = len(earlier)
        change = Change.resumed(earlier, has_fallback=self.fallback is not None)
        tried: list[CaptionRecord] = []
        for attempt in range(before + 1, before + 1 + self.config.max_attempts):
            made = yield from self._attempt(clip, prompt, known, change, attempt)
            if isinstance(made, FailedRequest):
                if not tried:
                    detail = f"{prompt.level} caption: {made.detail}"
                    return Failure(subject=clip.item.clip_id, step=STEP, kind=made.kind, detail=detail)
                break
            tried.append(made)
            with_remedy = [finding for finding in made.findings if finding.remedy]
            if not with_remedy:
                break
            change = change.after(with_remedy, attempt + 1, has_fallback=self.fallback is not None)
        best = min(tried, key=lambda record: (rank_of(record.status), len(record.findings)))
        if best.status not in USABLE and known.fields is not None and prompt.level in ("short", "dense"):
            composed = self._composed(clip, known, prompt.level, 0)
            if composed.status in USABLE:
                return replace(composed, attempt=best.attempt, earlier=(*earlier, *_attempts(tried)))
        return replace(best, earlier=(*earlier, *_attempts(record for record in tried if record is not best)))

    def _attempt(
        self, clip: DecodedItem, prompt: Prompt, known: _Known, change: Change, attempt: int
    ) -> Generator[Ask, Answer, CaptionRecord | FailedRequest]:
        try:
            shown = clip if change.frames == 1 else replace(clip, windows=clip.decode_again(change.frames))
        except MediaError:  # the other frames are damaged
            shown = clip
        if len(shown.windows) > 1 and prompt.level == "dense":
            return (yield from self._merged(shown, prompt, known, change, attempt))
        window = _whole(shown.windows, self.config.frames.num_frames)
        result = yield self._ask(window, prompt, self._prompt_text(clip, prompt, known, change), change)
        if isinstance(result, FailedRequest):
            return result
        return self._record(replace(shown, windows=[window]), prompt, known, change, result, attempt)

    def _merged(
        self, clip: DecodedItem, prompt: Prompt, known: _Known, change: Change, attempt: int
    ) -> Generator[Ask, Answer, CaptionRecord | FailedRequest]:
        """The caption of a long clip: of each window, then of all in the order of time."""
        text, results = self._prompt_text(clip, prompt, known, change), []
        for window in clip.windows:
            result = yield self._ask(window, prompt, text, change)
            if isinstance(result, FailedRequest):
                return result
            results.append(result)
        windows = tuple(
            Window(start_s=window.start_s, end_s=window.end_s, text=result.text)
            for window, result in zip(clip.windows, results, strict=True)
        )
        if self.prompts.merge is None:
            last = replace(results[-1], text=" ".join(window.text for window in windows))
        else:
            captions = "\n".join(f"{window.start_s:.1f} to {window.end_s:.1f} s: {window.text}" for window in windows)
            asked = self.prompts.merge.text(known={"captions": captions})
            merged = yield self._ask(None, prompt, "\n".join((asked, *change.instructions)), change)
            if isinstance(merged, FailedRequest):
                return merged
            last = merged
        return replace(self._record(clip, prompt, known, change, last, attempt), windows=windows)

    def _prompt_text(self, clip: DecodedItem, prompt: Prompt, known: _Known, change: Change) -> str:
        text = prompt.text(is_image=clip.item.kind == "image", known=known.placeholders())
        return "\n".join((text, *change.instructions))

    def _ask(self, window: WindowFrames | None, prompt: Prompt, text: str, change: Change) -> Ask:
        request = CaptionRequest(
            frames=NO_FRAMES if window is None else window.rgb,
            prompt=text,
            max_tokens=self._max_tokens(prompt.level, change),
            times_s=() if window is None else tuple(window.pts_s.tolist()),
            schema=FIELDS_SCHEMA if prompt.level == "fields" else None,
            seed=change.seed,
            repetition_penalty=change.repetition_penalty,
        )
        return Ask(request=request, is_for_fallback=change.fallback)

    def _max_tokens(self, level: CaptionLevel, change: Change) -> int:
        return self.config.max_tokens(level) << change.num_doublings

    def _record(
        self,
        clip: DecodedItem,
        prompt: Prompt,
        known: _Known,
        change: Change,
        result: CaptionResult | None,
        attempt: int,
    ) -> CaptionRecord:
        """The record of one attempt with all findings; `result` None: the model was not asked."""
        backend = self.fallback if change.fallback and self.fallback else self.backend
        text = result.text if result else ""
        found = salvage(text).fields if prompt.level == "fields" else None
        record = CaptionRecord(
            clip_id=clip.item.clip_id,
            media_digest=clip.digest,
            level=prompt.level,
            text=text if found is None else found.to_json(),
            findings=known.refused,
            attempt=attempt,
            parents=self._parents(clip, prompt, known) if result else (),
            finish_reason=result.finish_reason if result else "not_asked",
            provenance=self._shown(clip, _served(backend.provenance, result)),
            prompt_id=prompt.id,
            prompt_hash=prompt.digest,
            prompt_text=self._prompt_text(clip, prompt, known, change),
            frame_indices=tuple(index for window in clip.windows for index in window.indices.tolist()),
            frame_times_s=tuple(time for window in clip.windows for time in window.pts_s.tolist()),
            max_tokens=self._max_tokens(prompt.level, change),
            num_prompt_tokens=result.num_prompt_tokens if result else 0,
            num_output_tokens=result.num_output_tokens if result else 0,
        )
        return record if result is None else self._checked(record, clip, known, raw=text)

    def _shown(self, clip: DecodedItem, provenance: Provenance) -> Provenance:
        """With the library that read the frames of a video, where PyAV is not the chosen reader."""
        read_by = self.config.reader.read_by(clip.fallback) if clip.item.kind == "video" else {}
        return replace(provenance, libraries={**provenance.libraries, **read_by}) if read_by else provenance

    def _checked(self, record: CaptionRecord, clip: DecodedItem, known: _Known, *, raw: str) -> CaptionRecord:
        """With the checks' findings. `raw` is what the model wrote, from which the fields of `record` are salvaged."""
        evidence = Evidence(
            frames=clip.frames,
            facts=known.facts,
            original=known.original,
            fields=None if known.fields is None else known.fields.to_json(),
        )
        written = replace(record, text=raw)
        found = [finding for check in self.checks() for finding in check.of_caption(written, evidence)]
        return replace(record, findings=(*record.findings, *found))

    def _parents(self, clip: DecodedItem, prompt: Prompt, known: _Known) -> tuple[str, ...]:
        """The texts that the prompt gives."""
        given: list[tuple[CaptionLevel, str]] = []
        if known.fields is not None and prompt.asks_for("fields"):
            given.append(("fields", known.fields.to_json()))
        if known.original and prompt.asks_for("original"):
            given.append(("original", known.original))
        return tuple(text_id(clip.item.clip_id, level, text) for level, text in given)

    def _variants(self, clip: DecodedItem, known: _Known) -> list[CaptionRecord]:
        if known.fields is None:
            return []
        return [self._composed(clip, known, "dense", variant) for variant in range(1, self.config.variants + 1)]

    def _composed(self, clip: DecodedItem, known: _Known, level: CaptionLevel, variant: int) -> CaptionRecord:
        """A caption composed from the fields, without a model."""
        assert known.fields is not None
        item, fields = clip.item, known.fields
        text = short_of(fields) if level == "short" else compose(fields, key=item.clip_id, variant=variant)
        record = CaptionRecord(
            clip_id=item.clip_id,
            media_digest=clip.digest,
            level=level,
            variant=variant,
            text=text,
            attempt=0,
            parents=(text_id(item.clip_id, "fields", fields.to_json()),),
            finish_reason="composed",
            provenance=COMPOSED,
            prompt_id=COMPOSER,
            prompt_hash=COMPOSED.fingerprint,
            prompt_text="",
            frame_indices=(),
            frame_times_s=(),
            max_tokens=0,
            num_prompt_tokens=0,
            num_output_tokens=0,
        )
        return self._checked(record, clip, known, raw=text)


COMPOSED = Provenance(
    backend="compose", model="fields", revision=COMPOSER, fingerprint=content_digest("compose", COMPOSER)
)
"""Of texts that are composed from fields."""


def _together(
    parts: Sequence[Generator[Ask, Answer, Result]],
) -> Generator[tuple[Ask, ...], Sequence[Answer], list[Result]]:
    """What the parts return, in their order. They are asked round by round."""
    results: dict[int, Result] = {}
    asks: dict[int, Ask] = {}

    def advance(number: int, answer: Answer | None) -> None:
        try:
            asks[number] = next(parts[number]) if answer is None else parts[number].send(answer)
        except StopIteration as done:
            results[number] = done.value

    for number in range(len(parts)):
        advance(number, None)
    while asks:
        numbers, asked = list(asks), tuple(asks.values())
        asks.clear()
        answers = yield asked
        for number, answer in zip(numbers, answers, strict=True):
            advance(number, answer)
    return [results[number] for number in range(len(parts))]


def _attempts(records: Iterable[CaptionRecord]) -> tuple[Attempt, ...]:
    return tuple(
        Attempt(
            text=record.text,
            codes=tuple(finding.code for finding in record.findings),
            remedies=tuple(str(finding.remedy) for finding in record.findings if finding.remedy),
        )
        for record in records
    )


def _served(provenance: Provenance, result: CaptionResult | None) -> Provenance:
    """With the revision that a server reported with its answer."""
    return replace(provenance, revision=result.served_by) if result and result.served_by else provenance


def _whole(windows: Sequence[WindowFrames], num_frames: int) -> WindowFrames:
    """As many frames of all windows together as of one."""
    if len(windows) == 1:
        return windows[0]
    rgb, indices, pts_s = (
        np.concatenate([getattr(window, name) for window in windows]) for name in ("rgb", "indices", "pts_s")
    )
    chosen = middles(len(rgb), num_frames)
    return WindowFrames(
        start_s=windows[0].start_s,
        end_s=windows[-1].end_s,
        rgb=rgb[chosen],
        indices=indices[chosen],
        pts_s=pts_s[chosen],
    )
