"""What a user must know of a run's result."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

FEW = 100
"""Held-out texts below which differences of some percent mean nothing."""


def notes_of(rows: Sequence[Mapping[str, Any]], share_cut: float, context: int | None) -> Iterator[str]:
    """Sentences without a full stop.

    Args:
        rows: metrics of the run.
        share_cut: of the texts that are longer than the model's context.
        context: its length in tokens, where the tokenizer says it.
    """
    measured = {row["when"]: row["text_to_clip"] for row in rows if "when" in row}
    if not measured:
        yield "no clip is held out (select.split.val_fraction): nothing says whether training helped"
    if share_cut > 0:
        tokens = f" of {context} tokens" if context else ""
        yield (
            f"{share_cut:.0%} of the captions are longer than the model's context{tokens}: what is beyond it is not "
            "seen. train_clip.levels chooses levels with shorter ones"
        )
    if "before" in measured and _is_chance(before := measured["before"]):
        yield (
            f"before training recall@1 was {_against_chance(before)}: the model did not match these texts and clips. "
            "If it is a published CLIP, see whether its weights are those of train_clip.init.model"
        )
    if "after" in measured:
        yield from _of_result(measured["after"], measured.get("before"))


def _of_result(after: Mapping[str, Any], before: Mapping[str, Any] | None) -> Iterator[str]:
    if _is_chance(after):
        yield (
            f"after training recall@1 is {_against_chance(after)}: nothing was learned that holds for other clips. Do "
            "not use this model"
        )
    elif before is not None and after["recall@1"] <= before["recall@1_high"]:
        yield (
            f"recall@1 was {before['recall@1']:.1%} before training and is {after['recall@1']:.1%} after it, which "
            "other held-out clips could give without training. Train on more clips, or keep the first model"
        )
    if after["num_queries"] < FEW:
        yield f"{after['num_queries']} held-out texts are few: the intervals are wide"


def _is_chance(found: Mapping[str, Any]) -> bool:
    return bool(found["recall@1_low"] <= found["chance@1"])


def _against_chance(found: Mapping[str, Any]) -> str:
    return f"{found['recall@1']:.1%}, and a random order gives {found['chance@1']:.1%}"
