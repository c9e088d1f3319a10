"""Generation tasks: which part of a sample the model is shown, so that it generates the rest from it.

The loader calls `draw` on each training sample; sampling calls `condition` with what a user supplies. Both return the
sample with its conditioning set: `clean_mask` for tokens that are shown without noise, `conditioning` for further
latents by name.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from train.packing.shapes import Patch

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from train.packing.batch import Sample


class Task(Protocol):
    """One way of generating."""

    inputs: ClassVar[tuple[str, ...]]
    """What a user supplies when sampling, by name; no input: the sample is generated as a whole."""
    needs_causal: ClassVar[bool]
    """The task is sound only if later frames do not change the first latent frames."""

    @property
    def kind(self) -> str: ...

    @property
    def weight(self) -> float: ...

    def draw(self, sample: "Sample", patch: Patch, generator: "torch.Generator") -> "Sample":
        """Condition a training sample on parts of its own latent. A sample that is too short is left as it is."""
        ...

    def max_latent_frames(self, name: str, num_frames: int, patch: Patch) -> int:
        """The largest number of latent frames of the input `name`, as trained, for a latent of `num_frames`.

        Raises:
            ValueError: a latent of `num_frames` is too short for the task.
        """
        ...

    def condition(self, sample: "Sample", patch: Patch, inputs: Mapping[str, "Tensor"]) -> "Sample":
        """Condition a sample that is generated.

        Args:
            sample: its latent is zeros, (C, T, H, W).
            patch: of the model.
            inputs: a latent, (C, T', H, W), for each name in `Task.inputs`.

        Raises:
            ValueError: an input is too short for one patch.
        """
        ...


class TaskSettings(BaseModel):
    """What all tasks have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(
        1.0, ge=0, description="share of the samples trained on this task, relative to the sum over all tasks"
    )


AnyTask = TypeVar("AnyTask", bound=Task)


def pick(tasks: Sequence[AnyTask], u: float) -> AnyTask:
    """The task that a uniform draw in [0, 1) falls on, each with the probability of its weight."""
    left = u * sum(task.weight for task in tasks)
    for task in tasks:
        left -= task.weight
        if left < 0:
            return task
    return next(task for task in reversed(tasks) if task.weight)  # rounding


def task_for(tasks: Sequence[AnyTask], names: Iterable[str]) -> AnyTask:
    """The task that generates from the inputs `names`.

    Raises:
        ValueError: the run was trained on no such task.
    """
    wanted = sorted(names)
    for task in tasks:
        if task.weight and sorted(task.inputs) == wanted:
            return task
    known = "; ".join(f"{task.kind}: {', '.join(task.inputs) or 'nothing'}" for task in tasks if task.weight)
    raise ValueError(
        f"got {' and '.join(wanted)}, and the run was trained on the tasks ({known}); leave it out, or train a run "
        "with a task that takes it (train.data.tasks)"
    )
