"""The family of generation tasks."""

from typing import Annotated

from pydantic import Field

from train.data.tasks.first_frames import FirstFrames
from train.data.tasks.unconditional import Unconditional

TaskConfig = Annotated[
    Unconditional  # one line per member
    | FirstFrames,
    Field(discriminator="kind"),
]
