"""Does a captioner look at its clips? How much likelier a caption is with its own frames than with others.

A captioner that writes what its training captions have in common is fluent, and its loss falls. Only this difference
tells it from one that looks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from math import comb
from typing import Any

import numpy as np
import torch

from caption.finetune.base import Sample, TrainingData
from caption.finetune.config import StageConfig, Task
from caption.finetune.learner import Learner

SIGNIFICANT = 0.05
"""Probability below which as many captions are not likelier with their own frames by chance."""
NUM_HELD = 8
"""Clips whose frames are in memory together."""
MIN_GAP = 0.05
"""Nats per token. A smaller gap is found on enough clips, too, and no caption changes by it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grounding:
    """Of held-out clips with one task; losses and gaps are means of mean token losses, in nats.

    Attributes:
        task: What is asked.
        num: How many clips.
        loss: Of the answer with the clip's own frames.
        gap_other: How much more with the frames of another clip; None: there is no other.
        gap_black: How much more with black frames.
        num_compared: Clips for which there is another one.
        wins: Of these, clips whose answer is likelier with their own frames.
    """

    task: Task
    num: int
    loss: float
    gap_other: float | None
    gap_black: float
    num_compared: int
    wins: int

    @property
    def looks(self) -> bool | None:
        """Whether the captioner looks at the clips: the gap matters, and is not there by chance (sign test). None: too
        few clips to tell."""
        num = self.num_compared
        if self.gap_other is None or chance(num, num) >= SIGNIFICANT:
            return None
        return self.gap_other >= MIN_GAP and 2 * self.wins > num and chance(self.wins, num) < SIGNIFICANT

    def row(self) -> dict[str, Any]:
        return {**asdict(self), "looks": self.looks}


def chance(wins: int, num: int) -> float:
    """Two-sided probability of a split at least this uneven if both sides were equally likely to win."""
    tail = sum(comb(num, k) for k in range(max(wins, num - wins), num + 1)) / 2**num
    return min(1.0, 2 * tail)


def measure(learner: Learner, data: TrainingData, stage: StageConfig, limit: int) -> Iterator[Grounding]:
    """Grounding for each of a stage's tasks that held-out clips have, on at most `limit` clips."""
    learner.train(())
    for task in stage.tasks:
        found = data.held_out(task, limit)
        if not found:
            continue
        parts = [
            _of_part(data.load([found[row] for row in rows]), learner, stage.batch_size)
            for rows in np.array_split(np.arange(len(found)), -(-len(found) // NUM_HELD))
        ]
        if sum(len(part.true) for part in parts):
            yield _of_task(task, parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """Losses of some clips with their own and with black frames, (N,), and the gaps of those with another, (M,)."""

    true: np.ndarray
    black: np.ndarray
    gaps: np.ndarray


def _of_part(samples: Sequence[Sample], learner: Learner, batch_size: int) -> _Part:
    true = _losses(learner, samples, batch_size)
    black = _losses(learner, [replace(one, images=one.images * 0) for one in samples], batch_size)
    pairs = [(row, other) for row in range(len(samples)) if (other := _other(samples, row)) is not None]
    shuffled = [replace(samples[row], images=other.images) for row, other in pairs]
    own = true[np.array([row for row, _ in pairs], int)]
    return _Part(true=true, black=black, gaps=_losses(learner, shuffled, batch_size) - own)


def _of_task(task: Task, parts: Sequence[_Part]) -> Grounding:
    true, black, gaps = (np.concatenate([getattr(part, name) for part in parts]) for name in ("true", "black", "gaps"))
    return Grounding(
        task=task,
        num=len(true),
        loss=float(true.mean()),
        gap_other=float(gaps.mean()) if len(gaps) else None,
        gap_black=float((black - true).mean()),
        num_compared=len(gaps),
        wins=int((gaps > 0).sum()),
    )


def _other(samples: Sequence[Sample], row: int) -> Sample | None:
    """The next sample with another answer."""
    others = (*samples[row + 1 :], *samples[:row])
    return next((one for one in others if one.answer != samples[row].answer), None)


def _losses(learner: Learner, samples: Sequence[Sample], batch_size: int) -> np.ndarray:
    """(N,) float64: mean token loss of each sample."""
    found: list[float] = []
    remaining = iter(samples)
    while batch := list(islice(remaining, batch_size)):
        with torch.inference_mode():
            token_losses, rows = learner.losses(batch)
        found += [token_losses[rows == row].mean().item() for row in range(len(batch))]
    return np.array(found, np.float64)
