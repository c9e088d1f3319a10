"""What the settings of all evaluators share."""

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

Timesteps = Annotated[
    tuple[Annotated[float, Field(ge=0, le=1)], ...],
    Field(min_length=1, description="t of the fixed noise; of a DDPM below 1"),
]
TIMESTEPS = (0.1, 0.3, 0.5, 0.7, 0.9)


class EvaluatorSettings(BaseModel):
    """What all evaluators have: when they are due. The last step is always due."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    evaluator: ClassVar[str]
    """Where the class is: `package.module:Class`, built with these settings and the context."""
    every: int = Field(1000, ge=0, description="steps between evaluations, and the last step; 0: never")

    def is_due(self, step: int, last_step: int) -> bool:
        return self.every > 0 and (step == last_step or step % self.every == 0)
