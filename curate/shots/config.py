"""The family of shot detectors: one line per member."""

from typing import Annotated, get_args

from pydantic import Field

from curate.shots.adaptive import AdaptiveConfig
from curate.shots.cascade import CascadeConfig
from curate.shots.content import ContentConfig
from curate.shots.hash import HashConfig
from curate.shots.histogram import HistogramConfig
from curate.shots.spans import SpansConfig
from curate.shots.stride import StrideConfig
from curate.shots.threshold import ThresholdConfig
from curate.shots.transnetv2 import TransNetV2Config
from curate.shots.whole import WholeConfig

ShotDetectorConfig = Annotated[
    AdaptiveConfig
    | ContentConfig
    | HistogramConfig
    | HashConfig
    | ThresholdConfig
    | StrideConfig
    | SpansConfig
    | CascadeConfig
    | TransNetV2Config
    | WholeConfig,
    Field(discriminator="kind"),
]  # fmt: skip
DETECTORS = get_args(get_args(ShotDetectorConfig)[0])
"""The settings of every member."""
