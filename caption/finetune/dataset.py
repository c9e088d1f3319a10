"""The captioned clips of a dataset as training samples."""

import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from caption.finetune.base import Sample
from caption.finetune.config import StageConfig, Task
from curate.schema import MediaError, content_digest
from curate.shards.tar import TarReader

NUM_BUCKETED = 16
"""Batches that are sorted by length together: their samples have similar lengths, and their order is random."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is asked about a clip, and the answer that is learned."""

    prompt: str
    answer: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """A clip with its texts: `size` bytes from `offset` of `shard`, with their digest.

    Attributes:
        texts: Task → questions; where there are several, such as variants of a caption, one is drawn each time.
        is_held_out: The clip evaluates and does not train.
    """

    clip_id: str
    shard: str
    offset: int
    size: int
    digest: str | None = None
    texts: Mapping[Task, tuple[Question, ...]] = field(default_factory=dict)
    is_held_out: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipQuestion:
    """A clip and one of its questions."""

    clip: Clip
    question: Question


class ClipData:
    """`TrainingData` of clips in shards.

    Args:
        clips: all of them, in any order.
        shards_root: folder of the shards.
        frames_of: a clip's bytes → (T, H, W, 3) uint8 frames, as the captioner samples them.
    """

    def __init__(self, clips: Sequence[Clip], shards_root: str, frames_of: Callable[[bytes], np.ndarray]) -> None:
        clips = sorted(clips, key=lambda clip: clip.clip_id)
        self._train = [clip for clip in clips if not clip.is_held_out]
        self._held_out = [clip for clip in clips if clip.is_held_out]
        self._reader, self._frames_of = TarReader(shards_root), frames_of

    @property
    def key(self) -> str:
        """Digest of all that is trained and evaluated on."""
        parts = [
            f"{clip.clip_id} {clip.digest} {clip.is_held_out} {task} {question.prompt} {question.answer}"
            for clip in (*self._train, *self._held_out)
            for task, questions in sorted(clip.texts.items())
            for question in questions
        ]
        return content_digest("captioner data", *parts)

    def num_clips(self, stage: StageConfig) -> int:
        return sum(not clip.texts.keys().isdisjoint(stage.tasks) for clip in self._train)

    def num_batches(self, stage: StageConfig) -> int:
        """See `TrainingData`."""
        num = self.num_clips(stage)
        if not num:
            have = sorted({task for clip in self._train for task in clip.texts})
            raise ValueError(
                f"stage {stage.name}: none of the {len(self._train)} clips of the train split has a text for "
                f"{', '.join(stage.tasks)} (they have {', '.join(have) or 'none'}); `reelpack caption` writes "
                "captions, caption.original takes the user's own, and the stage's tasks name what is used"
            )
        return -(-num // stage.batch_size)

    def batches(self, stage: StageConfig, number: int, seed: int) -> Iterator[Sequence[ClipQuestion]]:
        """See `TrainingData`. Each pass asks every clip one question."""
        clips = [clip for clip in self._train if not clip.texts.keys().isdisjoint(stage.tasks)]
        epoch = 0
        while True:
            rng = np.random.default_rng((seed, number, epoch))
            asked = [_draw(clips[row], stage, rng) for row in rng.permutation(len(clips))]
            yield from _bucketed(asked, stage.batch_size, rng)
            epoch += 1

    def load(self, batch: Sequence[ClipQuestion]) -> list[Sample]:
        """See `TrainingData`.

        Raises:
            OSError, ValueError: a shard cannot be read, or holds other bytes than the index says.
        """
        samples = []
        for asked in batch:
            clip = asked.clip
            data = self._reader.read(clip.shard, clip.offset, clip.size, key=clip.clip_id, digest=clip.digest)
            try:
                frames = self._frames_of(data)
            except MediaError as error:
                log.warning("clip %s is left out: %s", clip.clip_id, error)
                continue
            question = asked.question
            samples.append(Sample(images=frames, prompt=question.prompt, answer=question.answer))
        return samples

    def held_out(self, task: Task, limit: int) -> Sequence[ClipQuestion]:
        """See `TrainingData`. The clips are the same in every run on this dataset."""
        clips = [clip for clip in self._held_out if task in clip.texts]
        random.Random(0).shuffle(clips)
        return [ClipQuestion(clip=clip, question=clip.texts[task][0]) for clip in clips[:limit]]


def _draw(clip: Clip, stage: StageConfig, rng: np.random.Generator) -> ClipQuestion:
    """One question of a clip, its task drawn by the stage's weights."""
    tasks = [task for task in stage.tasks if task in clip.texts]
    weights = np.array([stage.tasks[task] for task in tasks])
    questions = clip.texts[tasks[rng.choice(len(tasks), p=weights / weights.sum())]]
    return ClipQuestion(clip=clip, question=questions[rng.integers(len(questions))])


def _bucketed(
    asked: Sequence[ClipQuestion], batch_size: int, rng: np.random.Generator
) -> Iterator[Sequence[ClipQuestion]]:
    """Batches of texts of nearly one length, in random order."""
    span = batch_size * NUM_BUCKETED
    for start in range(0, len(asked), span):
        part = sorted(asked[start : start + span], key=lambda one: len(one.question.prompt + one.question.answer))
        batches = [part[first : first + batch_size] for first in range(0, len(part), batch_size)]
        yield from (batches[row] for row in rng.permutation(len(batches)))
