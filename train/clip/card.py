"""The card of a trained model: what it was trained on, what came of it, and what it is not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from train.clip.config import TrainClipConfig
from train.clip.recall import AT

DIRECTIONS = {"text_to_clip": "text → clip", "clip_to_text": "clip → text"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What a card tells of a run.

    Attributes:
        name: Of the model that it began with.
        num_weights, num_trained: Of the model.
        num_pairs, num_held_out: Captioned clips.
        num_texts: Level → texts of the clips that train.
        captioners: Names of what wrote the captions.
        steps: Optimizer steps.
    """

    name: str
    num_weights: int
    num_trained: int
    num_pairs: int
    num_held_out: int
    num_texts: Mapping[str, int]
    captioners: Sequence[str]
    steps: int


def card(facts: Facts, config: TrainClipConfig, rows: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> str:
    """Markdown.

    Args:
        facts: of the run.
        config: its settings.
        rows: of its metrics.
        notes: what a reader must know.
    """
    texts = ", ".join(f"{count:,} {level}" for level, count in facts.num_texts.items())
    losses = {"info_nce": "InfoNCE over the batch (CLIP)", "sigmoid": "pairwise sigmoid (SigLIP)"}
    lines = [
        "# A CLIP fitted to one dataset",
        "",
        f"{facts.name[0].upper()}{facts.name[1:]}, trained further by `reelpack train-clip` on the clips and captions "
        "of one dataset. It is fitted to this dataset: on other material it can be worse than the model that it began "
        "with, and its scores compare with no other model's.",
        "",
        f"- **Data**: {facts.num_pairs:,} clips with {texts} captions; {facts.num_held_out:,} held out. Captions by "
        f"{', '.join(facts.captioners) or 'unknown'}: what these get wrong, the model has learned.",
        f"- **Trained**: {facts.num_trained:,} of {facts.num_weights:,} weights; image tower {_told(config.image)}, "
        f"text tower {_told(config.text)}.",
        f"- **How**: {losses[config.loss]}, {facts.steps:,} steps of {config.batch_size} pairs, peak learning rate "
        f"{config.lr:g}, {config.num_frames} frames a clip, whose vectors are averaged.",
        "",
        "## Retrieval among held-out clips",
        "",
        *_table(rows),
        *(f"\n**Note**: {note}." for note in notes),
        "",
        "## Use",
        "",
        'As an encoder of reelpack: `{kind: open_clip, model: "local-dir:FOLDER"}`, with `score.num_frames` '
        f"{config.num_frames} and `score.short_side_px` {config.short_side_px}, as in training.",
        "",
    ]
    return "\n".join(lines)


def recall_cells(row: Mapping[str, Any], direction: str) -> list[str]:
    """Of one row of metrics: recall with its interval at each k, and the median rank."""
    found = row[direction]
    shares = [
        f"{found[f'recall@{k}']:.1%} ({found[f'recall@{k}_low']:.1%} to {found[f'recall@{k}_high']:.1%})" for k in AT
    ]
    return [DIRECTIONS[direction], row["when"], *shares, f"{found['median_rank']:g}"]


def chance_cells(row: Mapping[str, Any], direction: str) -> list[str]:
    """What a random order gives."""
    found = row[direction]
    return [
        DIRECTIONS[direction],
        "chance",
        *(f"{found[f'chance@{k}']:.1%}" for k in AT),
        "",
    ]


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    measured = [row for row in rows if "when" in row]
    if not measured:
        return ["Not measured: no clip is held out (`select.split.val_fraction`)."]
    found = measured[0]["text_to_clip"]
    lines = [
        f"{found['num_queries']:,} texts and {found['num']:,} clips; in brackets the 95 % interval over the queries. "
        "With more candidates all shares are lower.",
        "",
        f"| | | {' | '.join(f'recall@{k}' for k in AT)} | median rank |",
        "| --- " * (len(AT) + 3) + "|",
    ]
    for direction in DIRECTIONS:
        cells = [chance_cells(measured[0], direction), *(recall_cells(row, direction) for row in measured)]
        lines += [f"| {' | '.join(of_row)} |" for of_row in cells]
    return lines


def _told(trained: str | int) -> str:
    return f"its last {trained} blocks" if isinstance(trained, int) else trained
