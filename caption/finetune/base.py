"""What is trained on: samples in batches, and how they become a model's inputs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from caption.finetune.config import StageConfig, Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What a model is shown and asked, and what it is to answer.

    Attributes:
        images: (T, H, W, 3) uint8 RGB frames in the order of time, or what the data stores in their place.
        prompt: Text after the images.
        answer: Text that is learned.
    """

    images: Any
    prompt: str
    answer: str


class TrainingData(Protocol):
    """Samples of a run. Batches are a pure function of stage, seed and place in the order: a resumed run skips those
    that it has trained on."""

    def num_batches(self, stage: StageConfig) -> int:
        """Batches of a pass over the clips.

        Raises:
            ValueError: no clip has a text for the stage's tasks.
        """
        ...

    def batches(self, stage: StageConfig, number: int, seed: int) -> Iterator[Sequence[Any]]:
        """References to the samples of one batch after the other, without end; `number` is the stage's place."""
        ...

    def load(self, batch: Sequence[Any]) -> list[Sample]:
        """The samples of a batch; those whose clips cannot be decoded are left out. Called from several threads."""
        ...

    def held_out(self, task: Task, limit: int) -> Sequence[Any]:
        """References to samples that no stage trains on, of different clips."""
        ...


class PromptEncoder(Protocol):
    """Images and prompts as a model's inputs."""

    def __call__(self, samples: Sequence[Sample]) -> Mapping[str, Any]:
        """Tensors by name on the CPU, among them `input_ids` (N, L) int64 and `attention_mask` (N, L), pads on the
        left, without the answers; floats in the dtype that the model takes."""
        ...
