"""The family of objectives: one line each."""

from typing import Annotated, TypeAlias

from pydantic import Field

from train.objective.ddpm_config import DDPMConfig
from train.objective.flow_config import FlowConfig

AnyObjective: TypeAlias = (
    FlowConfig  #
    | DDPMConfig
)
ObjectiveConfig: TypeAlias = Annotated[AnyObjective, Field(discriminator="kind")]
