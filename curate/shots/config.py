"""The family of shot detectors: one line per member."""

from typing import Annotated

from pydantic import Field

from curate.shots.adaptive import AdaptiveConfig
from curate.shots.whole import WholeConfig

ShotDetectorConfig = Annotated[AdaptiveConfig | WholeConfig, Field(discriminator="kind")]
