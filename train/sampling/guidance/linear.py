"""The update is added as it is, and its contrast taken back where asked (Lin et al. 2023, §3.4)."""

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Tensor

    from train.sampling.guidance.combination import Answer


class LinearCombination(BaseModel):
    """Answer plus update. Large weights make the deviation of the result grow, which shows as too much contrast."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["linear"] = "linear"
    rescale: float = Field(
        0.0,
        ge=0,
        le=1,
        description="how far each sample is brought back to the deviation of the model's answer: 0 not at all, 1 "
        "wholly; the paper has 0.7",
    )

    @property
    def is_plain(self) -> bool:
        return self.rescale == 0

    def combined(self, answer: "Answer") -> "Tensor":
        def deviation(values: "Tensor") -> "Tensor":
            return (values - answer.mean(values)).square()

        guided = answer.output + answer.update
        ratio = answer.mean(deviation(answer.output)) / answer.mean(deviation(guided)).clamp(min=1e-12)  # (L, 1)
        return guided * (1 + self.rescale * (ratio.sqrt() - 1))
