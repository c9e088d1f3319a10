"""The plan: which samples share a pack, and which packs a step. A pure function of the samples, seed, epoch and
configuration.

Two levels. Packs are filled by tokens: a pool of samples in shuffled order; a pack starts with the sample that waited
longest and takes the largest of the pool that still fits. Steps are balanced by cost: attention is quadratic in each
segment, so packs of equal tokens take different times. Within a window of the epoch packs are sorted by predicted cost
and cut into groups of similar cost, which ranks work on side by side; the groups are shuffled, so that a step is a
mixture. On the corpus of `benchmarks/pack.py` eight ranks then wait for each other less than 1 % of their time, and
35 % without.

A window is planned from its own rows alone. A run resumes at a cursor without planning what came before.
"""

import logging
from bisect import bisect_right, insort
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

logger = logging.getLogger(__name__)


MOST_EMPTY = 1000
"""Windows in a row that meet no sample, at least, before it is said that none will."""


class PlannedSample(NamedTuple):
    """A row of the manifest, how often its epoch has seen it before, and its tokens in this epoch."""

    row: int
    occurrence: int
    num_tokens: int


Pack = tuple[PlannedSample, ...]
"""Samples that share a pack."""


class PlanConfig(BaseModel):
    """How packs are filled and grouped into steps."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token_budget: int = Field(16_384, ge=1, description="tokens of a pack, at most")
    packs_per_step: int = Field(1, ge=1, description="packs of an optimizer step, over all ranks")
    pool_size: int = Field(256, ge=1, description="samples the packer chooses from")
    balance_group: int | None = Field(
        None,
        ge=1,
        description="packs of like cost that ranks work on side by side: a multiple of the ranks, and a divisor of "
        "packs_per_step; none: the largest divisor up to 8, or up to a quarter of a step, that a step is a mixture",
    )
    pair_cost: float | None = Field(
        None, ge=0, description="cost of a pair of tokens that attend, relative to a token's; none: from the model"
    )
    window_samples: int = Field(65_536, ge=1, description="samples that are shuffled, packed and balanced together")
    block_samples: int = Field(1024, ge=1, description="neighboring rows of the manifest that share a window")
    oversize: Literal["own_pack", "crop", "refuse"] = Field(
        "own_pack",
        description="a sample above the budget gets a pack of its own, loses its last frames, or stops the run",
    )

    @model_validator(mode="after")
    def _groups_make_a_step(self) -> "PlanConfig":
        if self.balance_group is not None and self.packs_per_step % self.balance_group:
            raise ValueError(
                f"got balance_group={self.balance_group} and packs_per_step={self.packs_per_step}; expected a divisor "
                "of packs_per_step: set it to one, to the number of ranks at best, or leave it out"
            )
        return self

    @property
    def group(self) -> int:
        """Packs of like cost."""
        if self.balance_group is not None:
            return self.balance_group
        most = max(8, self.packs_per_step // 4)
        return max(n for n in range(1, min(most, self.packs_per_step) + 1) if self.packs_per_step % n == 0)


class Samples(Protocol):
    """What the plan asks of a manifest; rows are numbers of its rows."""

    def __len__(self) -> int: ...

    def in_epoch(self, rows: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows (n,) to how often each is seen in an epoch, (n,) int64, and with how many tokens, (n,) int64."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Cursor:
    """Where a run is in its plan: the next pack."""

    epoch: int = 0
    window: int = 0
    pack: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedPack:
    """A pack of one epoch."""

    epoch: int
    samples: Pack

    @property
    def num_tokens(self) -> int:
        return sum(sample.num_tokens for sample in self.samples)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedStep:
    """The packs of an optimizer step, groups of like cost next to each other, and where the next step begins."""

    packs: tuple[PlannedPack, ...]
    next: Cursor

    @property
    def num_samples(self) -> int:
        return sum(len(pack.samples) for pack in self.packs)

    @property
    def num_tokens(self) -> int:
        return sum(pack.num_tokens for pack in self.packs)


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """Samples that every epoch meets once, as they are: `num_tokens` (N,) int64."""

    num_tokens: np.ndarray

    def __len__(self) -> int:
        return len(self.num_tokens)

    def in_epoch(self, rows: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        return np.ones(len(rows), np.int64), self.num_tokens[rows]


class Planner:
    """The endless sequence of steps over a manifest. Nothing here knows the number of ranks.

    Args:
        samples: what is packed.
        seed: of the run.
        config: how.
        pair_cost: used where the configuration names none.
    """

    def __init__(self, samples: Samples, seed: int, config: PlanConfig, pair_cost: float = 0.0) -> None:
        self.samples = samples
        self.seed = seed
        self.config = config
        self.pair_cost = pair_cost if config.pair_cost is None else config.pair_cost
        self.num_blocks = -(-len(samples) // config.block_samples)
        self.blocks_per_window = max(1, config.window_samples // config.block_samples)
        self.num_windows = -(-self.num_blocks // self.blocks_per_window)

    def steps(self, start: Cursor | None = None) -> Iterator[PlannedStep]:
        """Steps from `start` on: epoch follows epoch, and a step may end one and begin the next.

        Raises:
            ValueError: an epoch without samples, or a cursor beyond the plan's end.
        """
        start = start or Cursor()
        if start.window >= max(1, self.num_windows):
            raise ValueError(
                f"got a cursor in window {start.window}, counted from 0, of an epoch that has {self.num_windows}: it "
                "belongs to a larger dataset; put that back, or train into another folder"
            )
        step: list[PlannedPack] = []
        for cursor, packs in self._windows(start):
            for number in range(cursor.pack, len(packs)):
                step.append(PlannedPack(epoch=cursor.epoch, samples=packs[number]))
                if len(step) == self.config.packs_per_step:
                    yield PlannedStep(packs=tuple(step), next=self._after(cursor, number, len(packs)))
                    step = []

    @cached_property
    def mean_step(self) -> tuple[float, float]:
        """Samples and tokens that a step has on average: what losses are divided by.

        Steps of long samples have fewer of them. Divided by its own number, such a step would make each of them weigh
        more than samples elsewhere. Of the first window, whose blocks are drawn from the whole manifest: one constant
        for the run, from any cursor, without planning the rest.
        """
        packs = self._first_window
        per_pack = self.config.packs_per_step / len(packs)
        num_samples = sum(map(len, packs))
        num_tokens = sum(sample.num_tokens for pack in packs for sample in pack)
        return num_samples * per_pack, num_tokens * per_pack

    def warn_of_idle(self, num_ranks: int) -> None:
        """Say so where ranks work side by side on packs of different cost."""
        group = self.config.group
        if num_ranks == 1 or group % num_ranks == 0:
            return
        costs = self.costs([[sample.num_tokens for sample in pack] for pack in self._first_window])
        logger.warning(
            "groups of %d packs of like cost do not divide among %d ranks, which are predicted to wait for each other "
            "%.0f %% of their time; set train.data.plan.balance_group=%d and train.data.plan.packs_per_step to a "
            "multiple of it, best %d or more, so that a step is a mixture (it is %d; another plan is another run)",
            group,
            num_ranks,
            100 * idle_share(costs, num_ranks),
            num_ranks,
            4 * num_ranks,
            self.config.packs_per_step,
        )

    @cached_property
    def _first_window(self) -> list[Pack]:
        return next(packs for _, packs in self._windows(Cursor()))

    def _windows(self, cursor: Cursor) -> Iterator[tuple[Cursor, list[Pack]]]:
        """The windows that have packs, from the one of `cursor` on, and the cursor in each."""
        num_empty = 0
        # Small weights leave out whole epochs, and of two epochs in a row the first and the last window may be seen.
        while num_empty < max(MOST_EMPTY, 2 * self.num_windows):
            if packs := self.window(cursor.epoch, cursor.window):
                yield cursor, packs
            num_empty = 0 if packs else num_empty + 1
            cursor = self._after(cursor, len(packs) - 1, len(packs))
        raise ValueError("an epoch meets no sample at all: the manifest is empty, or all its weights are 0")

    def epoch(self, epoch: int) -> list[Pack]:
        """All packs of an epoch: for reports, not for training."""
        return [pack for window in range(self.num_windows) for pack in self.window(epoch, window)]

    def window(self, epoch: int, window: int) -> list[Pack]:
        """The packs of one window, in the order in which they are trained on."""
        rows = self._rows(epoch, window)
        repeats, tokens = self.samples.in_epoch(rows, epoch)
        occurrences = np.arange(repeats.sum()) - np.repeat(repeats.cumsum() - repeats, repeats)
        rows, tokens = np.repeat(rows, repeats), np.repeat(tokens, repeats)
        rng = np.random.default_rng((self.seed, epoch, window))
        order = rng.permutation(len(rows))
        counts = tokens[order].tolist()
        packs = self._balanced(_completed(best_fill(counts, self.config), self.config.group), counts, rng)
        names = list(map(PlannedSample, rows[order].tolist(), occurrences[order].tolist(), counts))
        return [tuple(names[i] for i in pack) for pack in packs]

    def costs(self, packs: list[list[int]]) -> np.ndarray:
        """Predicted cost of packs given as token counts of their samples: n + pair_cost · n² summed, (N,)."""
        return np.array([sum(n + self.pair_cost * n * n for n in pack) for pack in packs], np.float64)

    def _rows(self, epoch: int, window: int) -> np.ndarray:
        """Rows of a window: blocks of neighbors in an order that the epoch shuffles."""
        order = np.random.default_rng((self.seed, epoch)).permutation(self.num_blocks)
        blocks = np.sort(order[window * self.blocks_per_window : (window + 1) * self.blocks_per_window])
        size = self.config.block_samples
        return np.concatenate([np.arange(b * size, min((b + 1) * size, len(self.samples))) for b in blocks.tolist()])

    def _balanced(self, packs: list[list[int]], counts: list[int], rng: np.random.Generator) -> list[list[int]]:
        """Sorted by cost, cut into groups, the groups shuffled."""
        group = self.config.group
        order = np.argsort(self.costs([[counts[i] for i in pack] for pack in packs]), kind="stable")
        starts = np.arange(0, len(packs), group)
        return [packs[i] for start in rng.permutation(starts) for i in order[start : start + group]]

    def _after(self, cursor: Cursor, pack: int, num_packs: int) -> Cursor:
        if pack + 1 < num_packs:
            return Cursor(epoch=cursor.epoch, window=cursor.window, pack=pack + 1)
        if cursor.window + 1 < self.num_windows:
            return Cursor(epoch=cursor.epoch, window=cursor.window + 1)
        return Cursor(epoch=cursor.epoch + 1)


def idle_share(costs: np.ndarray, num_ranks: int) -> float:
    """Share of their time that ranks wait for the slowest one, if each takes the next pack in turn and all meet after
    each: (N,) costs in the order of the plan."""
    rounds = costs[: len(costs) // num_ranks * num_ranks].reshape(-1, num_ranks)
    return float(1 - rounds.mean(1).sum() / rounds.max(1).sum()) if len(rounds) else 0.0


def _completed(packs: list[list[int]], group: int) -> list[list[int]]:
    """Packs in a number that is a multiple of `group`, if there are enough samples: the longest ones are halved. Packs
    are ragged: a smaller one costs nothing but its kernels' launches."""
    while len(packs) % group:
        longest = max(range(len(packs)), key=lambda i: len(packs[i]))
        samples = packs[longest]
        if len(samples) == 1:
            break
        packs[longest] = samples[::2]
        packs.append(samples[1::2])
    return packs


def best_fill(counts: Sequence[int], config: PlanConfig) -> list[list[int]]:
    """Numbers of samples, in packs of at most `token_budget` tokens, except for samples that are larger themselves.

    Args:
        counts: (N,) tokens of each sample, in the order in which they wait.
        config: budget and pool.
    """
    packs: list[list[int]] = []
    stream = iter(range(len(counts)))
    waiting: OrderedDict[int, None] = OrderedDict()  # the pool, longest waiting first
    by_size: list[tuple[int, int]] = []  # the same samples as (tokens, sample), ascending

    def take(sample: int) -> int:
        del waiting[sample]
        by_size.pop(bisect_right(by_size, (counts[sample], sample)) - 1)
        for newcomer in stream:
            waiting[newcomer] = None
            insort(by_size, (counts[newcomer], newcomer))
            break
        return sample

    for _, sample in zip(range(config.pool_size), stream, strict=False):
        waiting[sample] = None
        insort(by_size, (counts[sample], sample))
    while waiting:
        pack = [take(next(iter(waiting)))]
        room = config.token_budget - counts[pack[0]]
        while fits := bisect_right(by_size, (room, len(counts))):
            pack.append(take(by_size[fits - 1][1]))
            room -= counts[pack[-1]]
        packs.append(pack)
    return packs
