"""Settings of what is measured of generated videos. Nothing here needs torch."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from curate.encoders.config import ImageTextConfig
from curate.encoders.conse import ConseConfig
from train.evaluate.settings import EvaluatorSettings
from train.evaluate.video_features.config import FramesConfig, VideoFeaturesConfig

MIN_SAMPLES = 8
"""Of fewer no interval means anything."""


class MeasureConfig(BaseModel):
    """What is measured of generated videos, and against what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    features: tuple[VideoFeaturesConfig, ...] = Field(
        (FramesConfig(),),
        min_length=1,
        description="networks of Fréchet and kernel distances, by kind: frames (the embedded EfficientNet, whose "
        "distance is no FVD, or an open_clip model), i3d, videomae, inception; the first finds nearest clips, too",
    )
    text: tuple[ImageTextConfig, ...] = Field(
        (ConseConfig(),),
        description="encoders of text–video consistency: conse (embedded, weak, no CLIPSIM) or open_clip models",
    )
    num_text_frames: int = Field(8, ge=1, description="frames of a video that are compared with its prompt")
    max_held_out: int = Field(256, ge=MIN_SAMPLES, description="held-out clips, at most")
    max_training: int = Field(256, ge=1, description="training clips among which the nearest are looked for, at most")
    num_bootstrap: int = Field(200, ge=20, description="draws of an interval of confidence")
    confidence: float = Field(0.95, gt=0, lt=1, description="of the intervals")
    num_permutations: int = Field(9999, ge=99, description="of prompts, in the test of text–video consistency")


class QualityConfig(EvaluatorSettings, MeasureConfig):
    """Samples of held-out captions by the averaged weights, measured beside held-out clips."""

    evaluator: ClassVar[str] = "train.evaluate.quality.evaluator:QualityEvaluator"

    every: int = Field(0, ge=0, description="steps between measurements, and the last step; 0: never")
    num_samples: int = Field(32, ge=MIN_SAMPLES, description="held-out captions that are sampled, in turn")
    num_steps: int = Field(30, ge=1, description="steps of a sample from noise to data")
    guidance: float = Field(4.0, ge=0, description="classifier-free guidance of samples")
