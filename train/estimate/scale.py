"""Whether a set and the settings of a run are of one scale: what fills the packs, and how often a clip is seen."""

import logging
from dataclasses import dataclass

import numpy as np

from train.data.epoch import EpochSamples
from train.data.manifest import Manifest
from train.data.plan import Planner
from train.run.folder import TrainConfig

LEAST_FULL = 0.5
MOST_MEETINGS = 1000
"""Of a clip in a run: a larger number of them is rarely meant."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """A run in numbers, by the first window of its plan.

    Attributes:
        num_clips: Rows of the manifest.
        fill: Share of a pack's budget that is tokens.
        num_epochs: Of the whole run.
        meetings: How often the run meets a clip, on average.
        smallest_budget: Tokens that a pack must hold: of the largest sample, or of its share of an epoch.
    """

    num_clips: int
    fill: float
    num_epochs: float
    meetings: float
    smallest_budget: int


def scale_of(config: TrainConfig, manifest: Manifest) -> Scale:
    """Plan the first window of the first epoch."""
    plan = config.data.plan
    planner = Planner(EpochSamples(manifest, config.data.epoch, plan, config.seed), config.seed, plan)
    packs = planner.window(0, 0)
    sizes = np.array([sample.num_tokens for pack in packs for sample in pack] or [0])
    num_packs = len(packs) * planner.num_windows
    steps_packs = config.steps * plan.packs_per_step
    return Scale(
        num_clips=len(manifest),
        fill=float(sizes.sum() / max(1, len(packs) * plan.token_budget)),
        num_epochs=steps_packs / max(1, num_packs),
        meetings=steps_packs * sum(map(len, packs)) / max(1, len(packs) * len(manifest)),
        smallest_budget=max(int(sizes.max()), -int(-sizes.sum() // plan.packs_per_step)),
    )


def warn_of_scale(config: TrainConfig, manifest: Manifest) -> None:
    """Say so where packs stay nearly empty, or where clips are seen very often, with the setting to change."""
    scale, plan = scale_of(config, manifest), config.data.plan
    if scale.fill < LEAST_FULL and scale.smallest_budget < plan.token_budget:
        logger.warning(
            "packs are %.0f %% full: %d clips do not fill a step of %d x %d tokens; set "
            "train.data.plan.token_budget to %d, or train on more clips",
            100 * scale.fill, scale.num_clips, plan.packs_per_step, plan.token_budget, scale.smallest_budget,
        )  # fmt: skip
    if scale.meetings > MOST_MEETINGS:
        logger.warning(
            "%d steps are %.0f epochs of %d clips, each seen %.0f times; train.steps=%d shows it %d times",
            config.steps, scale.num_epochs, scale.num_clips, scale.meetings,
            max(1, int(config.steps * MOST_MEETINGS / scale.meetings)), MOST_MEETINGS,
        )  # fmt: skip
