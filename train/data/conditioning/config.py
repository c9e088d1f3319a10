"""The family of conditioning latents."""

from typing import Annotated

from pydantic import Field

from train.data.conditioning.spatial import Spatial
from train.data.conditioning.temporal import Temporal

ConditioningConfig = Annotated[
    Spatial  # one line per member
    | Temporal,
    Field(discriminator="kind"),
]
