"""A clip's captions: levels in order, what a prompt is given, attempts that apply remedies, windows, variants."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from caption import captioner
from caption.backends.base import CaptionRequest, CaptionResult, FailedRequest
from caption.backends.transformers_vlm import TransformersVlmConfig
from caption.captioner import CaptionStage
from caption.clip import ClipCaptioner
from caption.config import CaptionConfig
from caption.facts import Facts
from caption.fields import FIELDS_SCHEMA
from caption.frames import FramesConfig, WindowFrames
from caption.item import Captioned, CaptionItem, DecodedItem
from caption.provenance import Provenance
from caption.quality.base import Check, Evidence
from caption.quality.config import ChecksConfig
from caption.record import Attempt, CaptionRecord, Finding, Remedy
from curate.dataset.captions import CaptionStatus, text_id
from curate.schema import FailureKind, MediaError
from tests.support.caption_checks import WITHOUT_SENTENCES

FIELDS = {"subjects": ["a red car"], "actions": ["The car turns left"], "scene": "a crossing", "light": "noon sun"}
Answer = str | FailedRequest


class Script:
    """A backend that answers by a function of the request, and notes the requests."""

    checks: Sequence[Check] = ()
    num_in_flight = 0

    def __init__(self, answer: Callable[[CaptionRequest], Answer], name: str = "script") -> None:
        self.answer, self.asked = answer, list[CaptionRequest]()
        self.provenance = Provenance(backend=name, model=name, revision="1", fingerprint=name)

    def setup(self) -> None: ...

    def caption(self, requests: Sequence[CaptionRequest]) -> list[CaptionResult | FailedRequest]:
        return [self._one(request) for request in requests]

    def _one(self, request: CaptionRequest) -> CaptionResult | FailedRequest:
        self.asked.append(request)
        said = self.answer(request)
        if isinstance(said, FailedRequest):
            return said
        words = said.split()
        cut = len(words) > request.max_tokens
        return CaptionResult(
            text=" ".join(words[: request.max_tokens]),
            finish_reason="length" if cut else "stop",
            num_prompt_tokens=1,
            num_output_tokens=min(len(words), request.max_tokens),
        )


class Faults(Check):
    """Finds a fault in texts that hold a word, with the remedy of that word."""

    def __init__(self, remedies: Mapping[str, Remedy | None]) -> None:
        self.remedies = remedies
        self.seen: list[Evidence] = []

    def of_caption(self, record: CaptionRecord, evidence: Evidence) -> Iterator[Finding]:
        self.seen.append(evidence)
        for word, remedy in self.remedies.items():
            if word in record.text:
                instruction = f"Do not write {word}." if remedy is Remedy.PROMPT else ""
                yield Finding(
                    code=word, status=CaptionStatus.REJECTED, detail=word, remedy=remedy, instruction=instruction
                )


def window(start_s: float = 0.0, num_frames: int = 4) -> WindowFrames:
    frames = np.arange(num_frames)
    rgb = np.random.default_rng(0).integers(0, 256, (num_frames, 6, 8, 3), np.uint8).repeat(4, 1).repeat(4, 2)
    rgb[:, 0, 0] = int(start_s)
    return WindowFrames(
        start_s=start_s, end_s=start_s + 4, rgb=rgb, indices=frames + int(start_s), pts_s=start_s + frames * 1.0
    )


def captions(
    backend: Script,
    *,
    checks: Iterable[Check] = (),
    fallback: Script | None = None,
    windows: Sequence[WindowFrames] = (),
    item: Mapping[str, Any] | None = None,
    decode_again: Callable[[int], Sequence[WindowFrames]] = lambda attempt: [window(num_frames=4 * attempt)],
    **settings: Any,
) -> Captioned:
    """What one clip gets from a scripted model."""
    model = TransformersVlmConfig(model="script")
    config = CaptionConfig(backend=model, fallback=model if fallback else None, **({"prompts": "plain-v1"} | settings))
    found = tuple(checks) or WITHOUT_SENTENCES.build()
    captioner = ClipCaptioner(config, backend, fallback, lambda: found)
    clip = DecodedItem(
        item=CaptionItem(clip_id="c", shard="s", offset=0, size=1, kind="video", **(item or {})),
        digest="d",
        windows=windows or [window()],
        decode_again=decode_again,
    )
    captioning = captioner.captions(clip)
    try:
        asks = next(captioning)
        while True:
            answers: list[CaptionResult | FailedRequest] = []
            for ask in asks:
                asked = fallback if ask.is_for_fallback else backend
                assert asked is not None, "there is no second model to ask"
                answers += asked.caption([ask.request])
            asks = captioning.send(answers)
    except StopIteration as done:
        result: Captioned = done.value
        return result


def test_fields_come_first_and_are_given_to_the_texts() -> None:
    backend = Script(lambda request: json.dumps(FIELDS) if request.schema else "A red car turns left.")
    facts, original = Facts(camera=("pan left",)), "crossing at noon"
    done = captions(backend, prompts="fields-v1", item={"facts": facts, "original": original}, checks=[Faults({})])
    assert [record.level for record in done.records] == ["fields", "dense", "short"]
    fields, dense, short = done.records
    assert json.loads(fields.text) == FIELDS and backend.asked[0].schema == FIELDS_SCHEMA
    assert "pan left" in backend.asked[0].prompt and original in backend.asked[0].prompt
    assert fields.text in backend.asked[1].prompt and fields.text in backend.asked[2].prompt
    assert set(dense.parents) == {text_id("c", "fields", fields.text), text_id("c", "original", original)}
    assert short.parents == (text_id("c", "fields", fields.text),)
    assert dense.prompt_text == backend.asked[1].prompt


def test_an_image_is_called_an_image() -> None:
    backend = Script(lambda request: "A red car.")
    for prompts in ("plain-v1", "detailed-v1", "fields-v1"):
        captions(backend, prompts=prompts, item={"levels": None}, max_attempts=1)
    assert all("image" not in request.prompt for request in backend.asked)
    from caption.prompts import PROMPT_SETS

    for prompts in PROMPT_SETS.values():
        for prompt in prompts.prompts:
            text = prompt.text(is_image=True, known={"facts": "F", "fields": "{}", "original": "O"})
            assert "image" in text and "video" not in text and "frames of" not in text


def test_each_remedy_changes_the_next_attempt() -> None:
    remedies = {"prompt": Remedy.PROMPT, "seed": Remedy.SEED, "penalty": Remedy.PENALTY, "frames": Remedy.FRAMES}
    for word, remedy in remedies.items():
        said = iter([f"a {word} fault", "all well"])
        backend = Script(lambda request, said=said: next(said))
        (record,) = captions(backend, checks=[Faults({word: remedy})], item={"levels": ("short",)}).records
        first, second = backend.asked
        assert (record.text, record.attempt, record.status) == ("all well", 2, CaptionStatus.OK)
        assert record.earlier == (Attempt(text=f"a {word} fault", codes=(word,), remedies=(str(remedy),)),)
        assert (second.prompt != first.prompt) == (remedy is Remedy.PROMPT)
        assert (second.seed is not None) == (remedy is Remedy.SEED)
        assert (second.repetition_penalty is not None) == (remedy is Remedy.PENALTY)
        assert (len(second.frames) != len(first.frames)) == (remedy is Remedy.FRAMES)
    assert (
        "Do not write prompt."
        in captions(
            Script(lambda request: "fine" if "Do not" in request.prompt else "prompt"), checks=[Faults(remedies)]
        )
        .records[0]
        .prompt_text
    )


def test_no_two_attempts_ask_the_same() -> None:
    """A model that decodes greedily would write the same again."""
    backend = Script(lambda request: "a prompt fault")
    checks, item = [Faults({"prompt": Remedy.PROMPT})], {"levels": ("short",)}
    (record,) = captions(backend, checks=checks, max_attempts=4, item=item).records
    asked = [(request.prompt, request.seed) for request in backend.asked]
    assert len(set(asked)) == 4
    assert record.status == CaptionStatus.REJECTED and record.attempt == 1 and len(record.earlier) == 3


def test_a_text_that_is_cut_off_gets_more_tokens() -> None:
    backend = Script(lambda request: "word " * 50)
    short, _ = captions(backend, short_max_tokens=16, dense_max_tokens=64).records
    assert [request.max_tokens for request in backend.asked] == [16, 64, 32, 64], "both levels, then the short one"
    assert (short.status, short.attempt, short.max_tokens) == (CaptionStatus.OK, 3, 64)
    assert [attempt.codes for attempt in short.earlier] == [("truncated",)] * 2


def test_the_token_limit_is_doubled_three_times_at_most() -> None:
    backend = Script(lambda request: "word " * 5000)
    captions(backend, short_max_tokens=8, max_attempts=6, item={"levels": ("short",)})
    assert [request.max_tokens for request in backend.asked] == [8, 16, 32, 64, 64, 64]
    before = (Attempt(text="cut", codes=("truncated",), remedies=("tokens",)),) * 7
    captions(backend, short_max_tokens=8, max_attempts=1, item={"levels": ("short",), "earlier": {"short": before}})
    assert backend.asked[-1].max_tokens == 64


def test_a_finding_without_remedy_ends_the_attempts() -> None:
    backend = Script(lambda request: "a hopeless fault")
    record = captions(backend, checks=[Faults({"hopeless": None})]).records[0]
    assert (len(backend.asked), record.attempt, record.status) == (2, 1, CaptionStatus.REJECTED)


def test_a_second_model_is_asked_where_a_finding_wants_another() -> None:
    second = Script(lambda request: "by the second", name="second")
    first = Script(lambda request: "a backend fault")
    record = captions(first, fallback=second, checks=[Faults({"backend": Remedy.BACKEND})]).records[0]
    assert (record.text, record.provenance.model) == ("by the second", "second")
    alone = captions(first, checks=[Faults({"backend": Remedy.BACKEND})], max_attempts=2).records[0]
    assert alone.status == CaptionStatus.REJECTED and first.asked[-1].seed is not None


def test_a_request_that_fails_leaves_the_other_levels() -> None:
    def answer(request: CaptionRequest) -> Answer:
        return (
            FailedRequest(kind=FailureKind.TIMEOUT, detail="too slow")
            if "detail" in request.prompt
            else "A car turns left."
        )

    done = captions(Script(answer))
    assert [record.level for record in done.records] == ["short"]
    assert [(failure.kind, failure.detail) for failure in done.failures] == [
        (FailureKind.TIMEOUT, "dense caption: too slow")
    ]


def test_a_request_that_fails_after_an_attempt_keeps_the_attempt() -> None:
    said: Iterator[Answer] = iter(["a seed fault", "A car.", FailedRequest(kind=FailureKind.IO, detail="gone")])
    done = captions(Script(lambda request: next(said)), checks=[Faults({"seed": Remedy.SEED})])
    assert not done.failures and [record.text for record in done.records] == ["a seed fault", "A car."]


def test_texts_are_composed_of_the_fields_where_the_model_has_none() -> None:
    def answer(request: CaptionRequest) -> str:
        return json.dumps(FIELDS) if request.schema else "a hopeless fault"

    fields, dense, short = captions(Script(answer), prompts="fields-v1", checks=[Faults({"hopeless": None})]).records
    for record in (dense, short):
        assert record.status == CaptionStatus.OK and record.provenance.backend == "compose"
        assert record.parents == (text_id("c", "fields", fields.text),)
        assert [attempt.codes for attempt in record.earlier] == [("hopeless",)]


def test_variants_are_composed_of_the_fields_and_seeded() -> None:
    backend = Script(lambda request: json.dumps(FIELDS) if request.schema else "A red car turns left.")
    once, again = (captions(backend, prompts="fields-v1", variants=3, checks=[Faults({})]) for _ in range(2))
    assert [(r.level, r.variant) for r in once.records[3:]] == [("dense", 1), ("dense", 2), ("dense", 3)]
    assert once.records == again.records
    assert len({record.text for record in once.records[3:]}) > 1
    with pytest.raises(ValueError, match="composed from fields"):
        CaptionConfig(backend=TransformersVlmConfig(model="x"), prompts="plain-v1", variants=2)


def test_a_rerun_goes_on_with_other_seeds_and_keeps_the_attempts() -> None:
    before = (Attempt(text="bad", codes=("x",), remedies=("seed",)),) * 3
    backend = Script(lambda request: "fine")
    item = {"levels": ("short",), "earlier": {"short": before}}
    (record,) = captions(backend, item=item).records
    assert (record.attempt, record.earlier, backend.asked[0].seed) == (4, before, 4)


def test_a_rerun_applies_the_remedies_of_the_attempts_before_it() -> None:
    """So does the repeat of captions that many clips share: their finding comes after the last clip."""
    before = (
        Attempt(text="cut", codes=("truncated",), remedies=("tokens",)),
        Attempt(text="loop", codes=("repetition", "repeated_caption"), remedies=("penalty", "frames")),
    )
    backend = Script(lambda request: "fine")
    captions(backend, item={"levels": ("short",), "earlier": {"short": before}}, short_max_tokens=16)
    asked = backend.asked[0]
    assert (asked.max_tokens, asked.seed, asked.repetition_penalty, len(asked.frames)) == (32, 3, 1.2, 8)


def test_a_rerun_asks_no_second_model_where_there_is_none() -> None:
    before = (Attempt(text="bad", codes=("refusal",), remedies=("backend",)),)
    item = {"levels": ("short",), "earlier": {"short": before}}
    first, second = Script(lambda request: "by the first"), Script(lambda request: "by the second")
    assert [record.text for record in captions(first, item=item).records] == ["by the first"]
    assert [record.text for record in captions(first, fallback=second, item=item).records] == ["by the second"]


def test_an_attempt_whose_other_frames_are_damaged_is_shown_the_first_ones() -> None:
    def damaged(attempt: int) -> Sequence[WindowFrames]:
        raise MediaError(FailureKind.CORRUPT, "cut off")

    said = iter(["a frames fault", "A car."])
    checks = [Faults({"frames": Remedy.FRAMES})]
    done = captions(
        Script(lambda request: next(said)), checks=checks, item={"levels": ("short",)}, decode_again=damaged
    )
    assert [record.text for record in done.records] == ["A car."]


def test_windows_of_a_long_clip_are_merged_in_order() -> None:
    windows = [window(0.0), window(4.0), window(8.0)]
    frames = FramesConfig(window_s=4.0)

    def answer(request: CaptionRequest) -> str:
        return f"part {request.frames[0, 0, 0, 0]}" if len(request.frames) else "merged: " + request.prompt

    joined = captions(Script(answer), windows=windows, frames=frames).records[1]
    assert joined.text == "part 0 part 4 part 8" and [w.start_s for w in joined.windows] == [0.0, 4.0, 8.0]
    merged = captions(Script(answer), windows=windows, frames=frames, prompts="detailed-v1", dense_max_tokens=999)
    dense = merged.records[1]
    assert dense.text.index("part 0") < dense.text.index("part 4") < dense.text.index("part 8")
    assert len(dense.frame_indices) == 12 and len(merged.records[0].frame_indices) == 4


class InFlight(Script):
    """Answers several requests at the same time, and never ends before so many are asked."""

    num_in_flight = 3

    def __init__(self) -> None:
        super().__init__(lambda request: f"{request.frames.sum()} {request.max_tokens}")
        self.together = threading.Barrier(3, timeout=30)

    def caption(self, requests: Sequence[CaptionRequest]) -> list[CaptionResult | FailedRequest]:
        assert len(requests) == 1
        self.together.wait()
        return super().caption(requests)


def test_requests_in_flight_reach_their_number_and_keep_their_clips(shards, monkeypatch: pytest.MonkeyPatch) -> None:
    members = [shards.members[key] for key in ("clip9", "still", "clip20", "clip9", "still", "clip20")]
    items = [CaptionItem(clip_id=m.key, shard=m.shard, offset=m.offset, size=m.size, kind="video") for m in members]
    settings = CaptionConfig(backend=TransformersVlmConfig(model="x"), prompts="plain-v1", max_attempts=1)

    def texts(backend: Script, *, ahead: bool) -> list[list[str]]:
        monkeypatch.setattr(TransformersVlmConfig, "build", lambda config: backend)
        stage = CaptionStage(settings, shards.root)
        stage.setup()
        if ahead:
            stage.prefetch(items)
        done = [stage.process(items[:3]), stage.process(items[3:])]
        return [[record.text for record in one.records] for part in done for one in part]  # type: ignore[union-attr]

    monkeypatch.setattr(captioner, "MAX_HELD_BYTES", 1)  # of batches: what is in flight holds its own frames
    one_by_one = texts(Script(InFlight().answer), ahead=False)
    assert texts(Script(InFlight().answer), ahead=True) == one_by_one
    assert texts(InFlight(), ahead=True) == one_by_one
    assert len({text for clip in one_by_one for text in clip}) == 6


def test_of_a_batch_the_clips_that_need_it_alone_go_to_the_second_model(
    shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Script(lambda request: "a backend fault" if len(request.frames) == 1 else "fine", name="first")
    second = Script(lambda request: "by the second", name="second")
    backends = {"first": first, "second": second}
    monkeypatch.setattr(TransformersVlmConfig, "build", lambda config: backends[config.model])
    monkeypatch.setattr(ChecksConfig, "build", lambda config: (Faults({"backend": Remedy.BACKEND}),))
    models = {
        name: TransformersVlmConfig(model=model) for name, model in (("backend", "first"), ("fallback", "second"))
    }
    stage = CaptionStage(CaptionConfig(**models, prompts="plain-v1"), shards.root)
    stage.setup()
    members = [shards.members[key] for key in ("clip9", "still", "clip20")]
    items = [CaptionItem(clip_id=m.key, shard=m.shard, offset=m.offset, size=m.size, kind="video") for m in members]
    written = [[record.text for record in done.records] for done in stage.process(items)]  # type: ignore[union-attr]
    assert written == [["fine"] * 2, ["by the second"] * 2, ["fine"] * 2]
    assert [len(request.frames) for request in second.asked] == [1, 1]


def test_fields_that_a_check_rejects_are_given_to_no_later_prompt_and_nothing_is_composed_of_them() -> None:
    wrong = json.dumps(FIELDS | {"scene": "a hopeless place"})
    backend = Script(lambda request: wrong if request.schema else "a hopeless fault")
    done = captions(backend, prompts="fields-v1", variants=2, checks=[Faults({"hopeless": None})])
    assert [(record.level, record.status) for record in done.records] == [
        (level, CaptionStatus.REJECTED) for level in ("fields", "dense", "short")
    ]
    assert all("hopeless place" not in request.prompt for request in backend.asked)
    assert not any(record.parents or record.provenance.backend == "compose" for record in done.records)


def test_items_begin_in_the_order_in_which_they_were_started() -> None:
    """The earliest one that somebody waits for is never behind a later one that fills the memory."""
    begun: list[str] = []
    threads = captioner._Threads(begun.append, 1, 1)  # type: ignore[arg-type]
    later = threading.Thread(target=threads._run, args=("second", 1))
    later.start()
    later.join(0.05)
    assert not begun
    threads._run("first", 0)  # type: ignore[arg-type]
    later.join(10)
    assert begun == ["first", "second"]
