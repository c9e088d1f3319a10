"""Contrast: how far the dark and the bright parts of a picture lie apart."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from curate.encoders.base import EncoderPool
from curate.rules import Column, Rule
from curate.schema import content_digest
from curate.scores.base import Value
from curate.scores.frames import ClipFrames


class ContrastConfig(BaseModel):
    """Has no settings of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["contrast"] = "contrast"
    columns: ClassVar[Mapping[str, Column]] = {
        "contrast": Column(
            description="standard deviation of luma, mean over the frames", range=(0, 0.5), default=Rule(min=0.01)
        )
    }

    def build(self) -> "ContrastScorer":
        return ContrastScorer()


class ContrastScorer:
    key = content_digest("contrast", "1")  # another number where equal clips get other values

    def setup(self, encoders: EncoderPool) -> None:
        """There is nothing to load."""

    def score(self, clips: Sequence[ClipFrames]) -> list[dict[str, Value]]:
        return [{"contrast": float(clip.gray.std(axis=(1, 2)).mean()) / 255} for clip in clips]
