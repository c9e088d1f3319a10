"""Faults in good captions are found, and good captions are left alone: the figures of
`benchmarks.caption_quality`."""

from functools import cache

import pytest

from caption.quality.base import Check
from caption.quality.config import ChecksConfig
from caption.quality.repeated import RepeatedConfig
from tests.support.caption_confusion import Score, codes_of, confusion, ready
from tests.support.caption_faults import case, repeated

CODES = [
    "boilerplate", "broken_fields", "camera_contradicted", "invented_name", "invented_number", "leak",
    "medium_contradicted", "no_fields", "refusal", "repetition", "shots_contradicted", "too_long", "too_short",
    "truncated", "unfinished", "wrong_language",
]  # fmt: skip


@cache
def scores() -> dict[str, Score]:
    return confusion("held_out", ())


@cache
def checks() -> list[Check]:
    return ready(ChecksConfig().build())


@pytest.mark.parametrize("code", CODES)
def test_a_fault_is_found_and_good_captions_are_not_faulted(code: str) -> None:
    score = scores()[code]
    assert score.recall >= 0.9 and score.precision >= 0.95, score


def test_every_fault_of_the_benchmark_is_tested() -> None:
    assert scores().keys() == set(CODES)


@pytest.mark.parametrize("half", ["seen", "held_out"])
def test_a_caption_on_many_clips_is_found_but_not_on_duplicates_and_not_a_plain_one(half: str) -> None:
    table, groups, to_find = repeated(half)
    assert RepeatedConfig().build().of_corpus(table, groups).keys() == to_find


@pytest.mark.parametrize(
    "text",
    [
        'A sign says "Sorry, we cannot serve you". A man reads it.',
        "A woman says sorry. The man, who cannot hear her, walks on.",
        "A cook tilts a pan to the left while an assistant watches.",
        "Two shots of espresso drip into a glass.",
        "A goalkeeper saves two shots in a row.",
        "One take follows a waiter through a bar, without a quick cut.",
        "A photo of a sailor lies on the piano while a man plays.",
        "A potter turns a bowl. The shot follows her hands from the beginning to the end, the light stays warm.",
        "No, no, no, says the teacher. The children laugh.",
    ],
)
def test_what_only_looks_like_a_fault_passes(text: str) -> None:
    assert not codes_of(checks(), case(None, text))


def test_what_people_and_users_wrote_is_not_checked() -> None:
    for level in ("original", "human"):
        assert not codes_of(checks(), case(None, {"text": "In this video, I met Jim Beam in 1999.", "level": level}))
