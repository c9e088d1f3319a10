"""The family of generation tasks."""

from typing import Annotated

from pydantic import Field

from train.data.tasks.both_ends import BothEnds
from train.data.tasks.first_frames import FirstFrames
from train.data.tasks.gray_video import GrayVideoTask
from train.data.tasks.inpainting import Inpainting
from train.data.tasks.key_frames import KeyFrames
from train.data.tasks.last_frames import LastFrames
from train.data.tasks.random_frames import RandomFrames
from train.data.tasks.unconditional import Unconditional

TaskConfig = Annotated[
    Unconditional  # one line per member
    | FirstFrames
    | LastFrames
    | BothEnds
    | KeyFrames
    | RandomFrames
    | Inpainting
    | GrayVideoTask,
    Field(discriminator="kind"),
]
