"""Which samples of a manifest an epoch contains: how often each one, and with how many tokens.

Weights repeat or leave out a sample, a resolution is drawn for a clip that was encoded at several, tokens are dropped,
frames are cut from what exceeds the budget. All of it is a function of (seed, epoch, clip): planner and loader ask
here, and find the same.
"""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from train.data.draw import uniform
from train.data.drop import TokenDropConfig
from train.data.manifest import Manifest
from train.data.plan import PlanConfig

REPEAT, RESOLUTION, DROP = range(3)
"""Purposes of draws."""


class EpochConfig(BaseModel):
    """The samples of one epoch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    balance: bool = Field(True, description="draw a clip as often as the curation's balance_weight says, on average")
    resolution: Literal["all", "one"] = Field(
        "all",
        description="of a clip that was encoded at several sizes (data.latents): all, or one, drawn again each epoch",
    )
    size_power: float = Field(
        0.0,
        description="resolution: one: odds of a size are its tokens to this power; 0: equal odds, -1: each size gives "
        "as many tokens",
    )
    drop: TokenDropConfig = TokenDropConfig()


class EpochSamples:
    """`Samples` of the planner, over a manifest.

    Raises:
        ValueError: a sample is above the budget where `oversize` is "refuse", also after tokens are dropped.
    """

    def __init__(self, manifest: Manifest, config: EpochConfig, plan: PlanConfig, seed: int) -> None:
        self.manifest = manifest
        self.config = config
        self.seed = seed
        self.budget = plan.token_budget if plan.oversize == "crop" else None
        if plan.oversize == "refuse":
            _refuse_above(plan.token_budget, manifest)
        keys = manifest.keys
        starts = np.concatenate([[True], keys[1:] != keys[:-1]]) if len(keys) else np.zeros(0, bool)
        group = starts.cumsum() - 1  # rows of one clip are adjacent
        self._from, self._to = _shares(manifest.num_tokens, group, config.size_power)
        self._weights = self._expected(manifest, config)

    def __len__(self) -> int:
        return len(self.manifest)

    def in_epoch(self, rows: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows (n,) to how often each is seen, and with how many tokens, each (n,) int64."""
        keys = self.manifest.keys[rows]
        repeats = np.floor(self._weights[rows] + uniform(keys, self.seed, epoch, REPEAT)).astype(np.int64)
        if self.config.resolution == "one":
            u = uniform(keys, self.seed, epoch, RESOLUTION)
            is_drawn = (self._from[rows] <= u) & (u < self._to[rows])
            repeats = np.where(is_drawn, repeats, 0)
        tokens = self.manifest.grids[rows, 0] if self.budget is None else self.num_frames(rows)
        tokens = tokens * self.manifest.grids[rows, 1] * self.manifest.grids[rows, 2]
        rates = self.config.drop.rates(uniform(keys, self.seed, epoch, DROP), tokens, epoch)
        return repeats, np.maximum(1, np.rint(tokens * (1 - rates))).astype(np.int64)

    def _expected(self, manifest: Manifest, config: EpochConfig) -> np.ndarray:
        """(N,) float64: how often an epoch contains each row on average, before its other sizes are counted."""
        weights = manifest.weights if config.balance else np.ones(len(manifest))
        if any(part.share is None for part in manifest.parts):
            return weights
        clips = weights * (self._to - self._from) if config.resolution == "one" else weights
        seen = np.bincount(manifest.sources, clips, len(manifest.parts))
        shares = np.array([part.share for part in manifest.parts], np.float64)
        return weights * (shares * seen.sum() / np.maximum(seen, 1e-9))[manifest.sources]

    def num_frames(self, rows: np.ndarray) -> np.ndarray:
        """(n,) int64: patches along time that are left after cutting a sample to the budget, at least one."""
        grids = self.manifest.grids[rows]
        if self.budget is None:
            return grids[:, 0]
        return np.minimum(grids[:, 0], np.maximum(1, self.budget // (grids[:, 1] * grids[:, 2])))


def _shares(num_tokens: np.ndarray, group: np.ndarray, power: float) -> tuple[np.ndarray, np.ndarray]:
    """Of the rows of a group, side by side in [0, 1): where the share of each begins and ends, (N,) float64 each."""
    if not len(group):
        return np.zeros(0), np.zeros(0)
    odds = num_tokens.astype(np.float64) ** power
    totals = np.bincount(group, odds)
    ends = odds.cumsum()
    before = np.concatenate([[0.0], ends[np.flatnonzero(np.diff(group))]])[group]
    to = (ends - before) / totals[group]
    is_last = np.append(np.diff(group) != 0, True)
    to[is_last] = 1.0
    begins = np.concatenate([[0.0], to[:-1]])
    begins[np.concatenate([[True], np.diff(group) != 0])] = 0.0
    return begins, to


def _refuse_above(budget: int, manifest: Manifest) -> None:
    if not (manifest.num_tokens > budget).any():
        return
    longest = int(manifest.num_tokens.argmax())
    raise ValueError(
        f"clip {manifest.row(longest)['clip_id']} has {manifest.num_tokens[longest]} tokens "
        f"({int((manifest.num_tokens > budget).sum())} samples are above the budget of {budget}); raise "
        "train.data.plan.token_budget or set train.data.plan.oversize to own_pack or crop"
    )
