"""Checks of all captions together."""

import pyarrow as pa

from caption.quality.repeated import RepeatedConfig
from caption.quality.tics import TicsConfig
from curate.dataset.captions import CaptionStatus

LONG = "A man in a green coat walks over a wooden bridge while two dogs run ahead of him and a boat passes below."


def rows(*texts: str) -> pa.Table:
    return pa.Table.from_pylist(
        [{"clip_id": f"{row}", "level": "dense", "variant": 0, "text": text} for row, text in enumerate(texts)]
    )


def test_nearly_equal_captions_are_the_same() -> None:
    near = [LONG.replace("green", color) for color in ("red", "blue", "white", "black", "gray", "brown")]
    assert len(RepeatedConfig(min_overlap=0.6).build().of_corpus(rows(*near), {})) == 6
    assert not RepeatedConfig(min_overlap=1).build().of_corpus(rows(*near), {})
    assert not RepeatedConfig(min_overlap=0.6, max_clips=6).build().of_corpus(rows(*near), {})


def test_duplicates_count_as_one_clip() -> None:
    table = rows(*[LONG] * 7)
    assert len(RepeatedConfig().build().of_corpus(table, {})) == 7
    assert not RepeatedConfig().build().of_corpus(table, {"0": "group", "1": "group", "2": "group"})


def test_case_and_punctuation_make_no_difference() -> None:
    table = rows(*[LONG, LONG.upper(), LONG.replace(".", "!")] * 2)
    assert len(RepeatedConfig(min_overlap=1).build().of_corpus(table, {})) == 6


def test_a_frequent_opening_is_told_and_rejects_nothing() -> None:
    table = rows(*[f"The scene unfolds with subject {row} in place {row}." for row in range(30)], *["Other."] * 30)
    found = TicsConfig().build().of_corpus(table, {})
    assert len(found) == 30
    (finding,) = found["0", "dense", 0]
    assert finding.code == "tic" and finding.status == CaptionStatus.OK and finding.remedy is None
    assert "the scene unfolds" in finding.detail and "0.50" in finding.detail


def test_shares_of_few_captions_say_nothing() -> None:
    assert not TicsConfig().build().of_corpus(rows(*["The scene unfolds with a dog."] * 49), {})
