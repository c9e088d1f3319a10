"""Which samples of a manifest an epoch contains: how often each one, and with how many tokens.

Weights repeat or leave out a sample, a resolution is drawn for a clip that was encoded at several, tokens are dropped,
frames are cut from what exceeds the budget. All of it is a function of (seed, epoch, clip): planner and loader ask
here, and find the same.
"""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from train.data.draw import uniform
from train.data.manifest import Manifest
from train.data.plan import PlanConfig

REPEAT, RESOLUTION, DROP = range(3)
"""Purposes of draws."""


class TokenDropConfig(BaseModel):
    """Continuous token dropping (NaViT, Dehghani et al. 2023, §2.1): each sample of each epoch has its own rate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    distribution: Literal["none", "constant", "uniform", "truncated_normal"] = "none"
    low: float = Field(0.0, ge=0, lt=1, description="least share that is dropped; of `constant`: the share")
    high: float = Field(0.9, ge=0, lt=1, description="largest share that is dropped")
    mean: float = Field(0.5, description="of `truncated_normal`, before it is cut at low and high")
    std: float = Field(0.2, gt=0)

    @model_validator(mode="after")
    def _bounds_ascend(self) -> "TokenDropConfig":
        if self.distribution in ("uniform", "truncated_normal") and self.low > self.high:
            raise ValueError(f"got low {self.low} above high {self.high}; exchange them")
        return self

    def rates(self, draws: np.ndarray) -> np.ndarray:
        """(N,) uniform draws to (N,) shares that are dropped."""
        if self.distribution == "none":
            return np.zeros(len(draws))
        if self.distribution == "constant":
            return np.full(len(draws), self.low)
        if self.distribution == "uniform":
            return self.low + (self.high - self.low) * draws
        import torch

        ends = torch.tensor([(self.low - self.mean) / self.std, (self.high - self.mean) / self.std]).double()
        below, above = torch.special.ndtr(ends).tolist()
        normal = torch.special.ndtri(torch.from_numpy(below + (above - below) * draws)).numpy()
        return np.clip(self.mean + self.std * normal, self.low, self.high)


class EpochConfig(BaseModel):
    """The samples of one epoch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    balance: bool = Field(True, description="draw a clip as often as the curation's balance_weight says, on average")
    resolution: Literal["all", "one"] = Field(
        "all",
        description="of a clip that was encoded at several sizes (data.latents): all, or one, drawn again each epoch",
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
        first = np.flatnonzero(starts)
        self._size = np.diff([*first.tolist(), len(keys)])[group] if len(keys) else group
        self._weights = self._expected(manifest, config)
        self._number = np.arange(len(keys)) - first[group] if len(keys) else group

    def __len__(self) -> int:
        return len(self.manifest)

    def in_epoch(self, rows: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows (n,) to how often each is seen, and with how many tokens, each (n,) int64."""
        keys = self.manifest.keys[rows]
        repeats = np.floor(self._weights[rows] + uniform(keys, self.seed, epoch, REPEAT)).astype(np.int64)
        if self.config.resolution == "one":
            drawn = (uniform(keys, self.seed, epoch, RESOLUTION) * self._size[rows]).astype(np.int64)
            repeats = np.where(drawn == self._number[rows], repeats, 0)
        tokens = self.manifest.grids[rows, 0] if self.budget is None else self.num_frames(rows)
        tokens = tokens * self.manifest.grids[rows, 1] * self.manifest.grids[rows, 2]
        rates = self.config.drop.rates(uniform(keys, self.seed, epoch, DROP))
        return repeats, np.maximum(1, np.rint(tokens * (1 - rates))).astype(np.int64)

    def _expected(self, manifest: Manifest, config: EpochConfig) -> np.ndarray:
        """(N,) float64: how often an epoch contains each row on average, before its other sizes are counted."""
        weights = manifest.weights if config.balance else np.ones(len(manifest))
        if any(part.share is None for part in manifest.parts):
            return weights
        clips = weights / self._size if config.resolution == "one" else weights
        seen = np.bincount(manifest.sources, clips, len(manifest.parts))
        shares = np.array([part.share for part in manifest.parts], np.float64)
        return weights * (shares * seen.sum() / np.maximum(seen, 1e-9))[manifest.sources]

    def num_frames(self, rows: np.ndarray) -> np.ndarray:
        """(n,) int64: patches along time that are left after cutting a sample to the budget, at least one."""
        grids = self.manifest.grids[rows]
        if self.budget is None:
            return grids[:, 0]
        return np.minimum(grids[:, 0], np.maximum(1, self.budget // (grids[:, 1] * grids[:, 2])))


def _refuse_above(budget: int, manifest: Manifest) -> None:
    if not (manifest.num_tokens > budget).any():
        return
    longest = int(manifest.num_tokens.argmax())
    raise ValueError(
        f"clip {manifest.row(longest)['clip_id']} has {manifest.num_tokens[longest]} tokens "
        f"({int((manifest.num_tokens > budget).sum())} samples are above the budget of {budget}); raise "
        "train.data.plan.token_budget or set train.data.plan.oversize to own_pack or crop"
    )
