"""Short prompts become captions of the run's style; a text that says something else is never used."""

import random
from collections.abc import Sequence

import pytest

from caption.backends.base import CaptionRequest, CaptionResult, FailedRequest
from caption.endings import EndingWriter
from caption.prompt_examples import PromptExamples, choose_examples
from caption.upsample import ChatWriter, UpsampleConfig, answer_of, faults, upsample
from curate.schema import FailureKind

SUBJECTS = ("fox", "bear", "owl", "hare")
ENDING = "Wide shot, still camera, soft light."
PAIRS = [
    (f"A {name} walks.", f"A brown {name} walks slowly over a green meadow with flowers. Its tail moves. {ENDING}")
    for name in SUBJECTS
]
EXAMPLES = choose_examples(PAIRS)
assert EXAMPLES is not None
CONFIG = UpsampleConfig(max_attempts=3)


class Scripted:
    """A language model that answers in turn, and keeps what it was asked."""

    num_in_flight = 0
    checks = ()

    def __init__(self, *answers: str | FailedRequest) -> None:
        self.answers, self.asked = list(answers), list[CaptionRequest]()

    def setup(self) -> None: ...

    def caption(self, requests: Sequence[CaptionRequest]) -> list[CaptionResult | FailedRequest]:
        self.asked += requests
        found = [self.answers[min(len(self.asked), len(self.answers)) - 1]]
        return [
            one if isinstance(one, FailedRequest)
            else CaptionResult(text=one, finish_reason="stop", num_prompt_tokens=1, num_output_tokens=1)
            for one in found
        ]  # fmt: skip


class Ranks:
    """Finds endings likely that have a word."""

    def __init__(self, word: str) -> None:
        self.word = word

    def setup(self) -> None: ...

    def log_likelihoods(self, text: str, endings: Sequence[str]) -> list[float]:
        return [float(self.word in ending and "walks" not in text) for ending in endings]


def test_a_run_keeps_pairs_and_the_endings_without_subjects() -> None:
    assert EXAMPLES.endings == (ENDING,)
    assert set(EXAMPLES.pairs) == set(PAIRS)
    assert PromptExamples.from_json(EXAMPLES.to_json()) == EXAMPLES
    assert choose_examples([]) is None
    for text in ("", "{}", '{"pairs": [["a"]], "endings": [], "dense_words": 1}'):
        with pytest.raises(ValueError):
            PromptExamples.from_json(text)


def test_the_first_answer_that_says_what_the_prompt_says_is_used() -> None:
    model = Scripted("A dog runs.", FailedRequest(kind=FailureKind.MODEL, detail="busy"), "Two cats sleep on a sofa.")
    result = upsample("two cats sleep", EXAMPLES, CONFIG, ChatWriter(model, CONFIG))
    assert (result.text, result.is_refused) == ("Two cats sleep on a sofa.", False)
    assert [request.seed is None for request in model.asked] == [True, False, False]
    assert all(request.frames.shape[0] == 0 for request in model.asked)
    assert "A fox walks." in model.asked[0].prompt or "A bear walks." in model.asked[0].prompt


def test_without_such_an_answer_the_prompt_itself_is_used_and_says_why() -> None:
    result = upsample("two cats sleep", EXAMPLES, CONFIG, ChatWriter(Scripted("Three cats sleep well."), CONFIG))
    assert (result.text, result.is_refused) == ("two cats sleep", True)
    assert "how many 'cat' there are" in result.reason
    failed = FailedRequest(kind=FailureKind.TIMEOUT, detail="no answer in 60 s")
    result = upsample("a cat", EXAMPLES, CONFIG, ChatWriter(Scripted(failed), CONFIG))
    assert "no answer in 60 s" in result.reason


def test_a_prompt_as_long_as_the_captions_of_the_run_is_not_sent() -> None:
    model, prompt = Scripted("x"), "a cat " * 12
    result = upsample(prompt, EXAMPLES, CONFIG, ChatWriter(model, CONFIG))
    assert (result.text, result.is_refused) == (prompt, False)
    assert not model.asked


def test_equal_seeds_give_equal_requests() -> None:
    def asked(seed: int) -> list[tuple[str, int | None]]:
        model, config = Scripted("no"), UpsampleConfig(seed=seed, num_examples=2)
        upsample("a cat", EXAMPLES, config, ChatWriter(model, config))
        return [(request.prompt, request.seed) for request in model.asked]

    assert asked(0) == asked(0)
    assert asked(0) != asked(1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("A cat.", "nothing is added"),
        ("A cat sits. " * 9, "it repeats itself"),
        ("Caption: a cat on a wall.", "it speaks of the task"),
        ("A cat " + " ".join(f"w{number}" for number in range(99)), "the longest caption of the run"),
    ],
)
def test_a_text_that_is_no_caption_of_the_run_is_refused(text: str, told: str) -> None:
    assert any(told in fault for fault in faults("a cat", text, EXAMPLES))


def test_of_an_answer_the_caption_alone_is_read() -> None:
    assert answer_of('Caption: "A cat sits."\n\nI added a seat.', is_cut=False) == "A cat sits."
    assert answer_of("A cat sits. It looks at the", is_cut=True) == "A cat sits."
    assert answer_of("“Stop” says a sign, “go” another”", is_cut=False) == "“Stop” says a sign, “go” another”"


def test_the_small_model_chooses_an_ending_and_leaves_the_prompt_as_it_is() -> None:
    examples = PromptExamples(
        pairs=EXAMPLES.pairs, endings=("Wide shot, bright light.", "Low camera."), dense_words=20
    )
    assert upsample("a cat", examples, CONFIG, EndingWriter(language=Ranks("Wide"))).text == (
        "A cat. Wide shot, bright light."
    )
    assert upsample("a cat", examples, CONFIG, EndingWriter(language=Ranks("Low"))).text == "A cat. Low camera."
    at_night = upsample("a cat at night", examples, CONFIG, EndingWriter(language=Ranks("Wide")))
    assert at_night.text == "A cat at night. Low camera.", "an ending about light does not fit"
    filmed = upsample("close-up of a cat", examples, CONFIG, EndingWriter(language=Ranks("Wide")))
    assert (filmed.text, filmed.is_refused) == ("close-up of a cat", True)
    assert "how the video is filmed" in filmed.reason


def test_without_endings_the_small_model_names_the_larger_ones() -> None:
    examples = PromptExamples(pairs=EXAMPLES.pairs, endings=(), dense_words=20)
    told = EndingWriter(language=Ranks("")).write("a cat", examples, random.Random(0), 0)
    assert isinstance(told, FailedRequest)
    assert "upsample.backend.model" in told.detail
