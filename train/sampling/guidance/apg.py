"""Adaptive projected guidance (Sadat et al. 2024, "Eliminating Oversaturation", algorithm 1)."""

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Tensor

    from train.sampling.guidance.combination import Answer


class ProjectedCombination(BaseModel):
    """The part of the update that lies along the answer, seen as data, is reduced: it is what saturates colors.

    Departure: the bound of the update is on its root mean square, not on its norm, so that it means the same for
    samples of any size.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["apg"] = "apg"
    parallel: float = Field(
        0.0, description="share of the part along the answer that is kept; 1: all (the paper's eta)"
    )
    max_rms: float | None = Field(
        None, gt=0, description="largest root mean square of the update, of data of deviation 1; null: no bound"
    )
    momentum: float = Field(
        0.0, gt=-1, lt=1, description="share of the updates of the steps before that is added; the paper has -0.5"
    )

    @property
    def is_plain(self) -> bool:
        return False

    def combined(self, answer: "Answer") -> "Tensor":
        update = answer.update * answer.data_scale  # of x_0
        if self.momentum:
            if "update" in answer.memory:
                update = update + self.momentum * answer.memory["update"]
            answer.memory["update"] = update
        if self.max_rms is not None:
            rms = answer.mean(update.square()).sqrt()  # (L, 1)
            update = update * (self.max_rms / rms.clamp(min=1e-12)).clamp(max=1)
        along = answer.mean(update * answer.data) / answer.mean(answer.data.square()).clamp(min=1e-12) * answer.data
        return answer.output + (update - (1 - self.parallel) * along) / answer.data_scale
