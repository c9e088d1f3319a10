"""No detection: the file is one shot. For footage that is already split."""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from curate.shots.base import Timeline, Transition
from curate.shots.weightless import Unscored


class WholeConfig(BaseModel):
    """The whole file is one shot."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["whole"] = "whole"

    def build(self) -> "WholeDetector":
        return WholeDetector()


class WholeDetector(Unscored):
    def transitions(self, scores: np.ndarray, timeline: Timeline) -> list[Transition]:
        return []
