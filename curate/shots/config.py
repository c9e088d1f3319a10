"""The family of shot detectors: one line per member."""

from typing import Annotated, get_args

from pydantic import Field

from curate.shots.adaptive import AdaptiveConfig
from curate.shots.whole import WholeConfig

ShotDetectorConfig = Annotated[
    AdaptiveConfig
    | WholeConfig,
    Field(discriminator="kind"),
]  # fmt: skip
DETECTORS = get_args(get_args(ShotDetectorConfig)[0])
"""The settings of every member."""
