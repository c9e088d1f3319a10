"""The clips of a dataset with their captions: which pairs make a batch, and their frames."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from curate.media.decode import clip_frames, clip_times, middles, within_short_side
from curate.schema import content_digest
from curate.shards.tar import TarReader
from train.clip.config import Level


@dataclass(frozen=True, kw_only=True)
class CaptionedClip:
    """`size` bytes from `offset` of `shard`, with their digest, and what is said of them.

    Attributes:
        texts: Level → its texts, variant after variant.
        is_held_out: The clip measures and does not train.
    """

    clip_id: str
    shard: str
    offset: int
    size: int
    digest: str | None
    texts: Mapping[Level, tuple[str, ...]]
    is_held_out: bool = False

    @cached_property
    def said(self) -> frozenset[str]:
        """All of its texts, in the form in which equal ones are found."""
        return frozenset(plain(text) for texts in self.texts.values() for text in texts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A clip and one of its texts."""

    clip: CaptionedClip
    text: str


class Pairs:
    """What is trained and measured on; every draw is a function of seed and epoch.

    Args:
        clips: of the dataset, in any order; those without a text of a level are left out.
        levels: the weight of each level.
    """

    def __init__(self, clips: Sequence[CaptionedClip], levels: Mapping[Level, float]) -> None:
        usable = [clip for clip in clips if not clip.texts.keys().isdisjoint(levels)]
        usable.sort(key=lambda clip: clip.clip_id)
        self.num_clips, self.levels = len(clips), levels
        self.train = [clip for clip in usable if not clip.is_held_out]
        self.held_out = [clip for clip in usable if clip.is_held_out]

    @property
    def key(self) -> str:
        """Digest of all that is trained and measured on."""
        said = (
            f"{clip.clip_id} {clip.digest} {clip.is_held_out} {level} {text}"
            for clip in (*self.train, *self.held_out)
            for level, texts in sorted(clip.texts.items())
            for text in texts
        )
        return content_digest("clip pairs", *said)

    def steps_per_epoch(self, batch_size: int) -> int:
        """Whole batches; in each epoch other pairs are left over.

        Raises:
            ValueError: there are fewer pairs than a batch has.
        """
        if self.held_out and not self.train:
            raise ValueError(
                f"all {len(self.held_out)} captioned clips are held out; lower select.split.val_fraction, or caption "
                "the others"
            )
        if not self.train:
            raise ValueError(
                f"none of the {self.num_clips} clips has a caption of {', '.join(self.levels)} and is in the train "
                "split; `reelpack caption` writes captions, caption.original takes your own, and train_clip.levels "
                "names what is used"
            )
        if len(self.train) < batch_size:
            raise ValueError(
                f"train_clip.batch_size={batch_size}, and the train split has {len(self.train)} captioned clips; "
                f"lower it to at most {len(self.train)}, or curate more: a clip is told from the others of its batch"
            )
        return len(self.train) // batch_size

    def epoch(self, number: int, batch_size: int, seed: int) -> Iterator[list[Pair]]:
        """The batches of an epoch: each clip once at most, with a text whose level is drawn by the weights."""
        rng = np.random.default_rng((seed, number))
        order = rng.permutation(len(self.train))
        drawn = rng.random((len(order), 2))
        for start in range(0, len(order) - batch_size + 1, batch_size):
            rows = range(start, start + batch_size)
            yield [self._draw(self.train[order[row]], *drawn[row].tolist()) for row in rows]

    def _draw(self, clip: CaptionedClip, level: float, variant: float) -> Pair:
        """With two numbers in [0, 1)."""
        levels = [name for name in self.levels if name in clip.texts]
        sums = np.cumsum([self.levels[name] for name in levels])
        texts = clip.texts[levels[int(np.searchsorted(sums, level * sums[-1], side="right"))]]
        return Pair(clip=clip, text=texts[int(variant * len(texts))])

    def measured(self, limit: int) -> list[Pair]:
        """Held-out clips, the same for every run, each with its first text of the level that weighs most."""
        order = np.random.default_rng(0).permutation(len(self.held_out))[:limit]
        return [Pair(clip=clip, text=self._main_text(clip)) for clip in (self.held_out[row] for row in sorted(order))]

    def _main_text(self, clip: CaptionedClip) -> str:
        levels = [level for level in self.levels if level in clip.texts]
        return clip.texts[max(levels, key=lambda level: self.levels[level])][0]


def plain(text: str) -> str:
    """A text without differences of case and space."""
    return " ".join(text.casefold().split())


def shared(pairs: Sequence[Pair]) -> np.ndarray:
    """(B, B) bool: whether the text of one pair is a text of the other's clip; symmetric, its diagonal True."""
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, pair in enumerate(pairs):
        rows_of[plain(pair.text)].append(row)
    found = np.eye(len(pairs), dtype=bool)
    for row, pair in enumerate(pairs):
        for text in pair.clip.said:
            found[row, rows_of.get(text, [])] = True
    return np.asarray(found | found.T)


class FrameReader:
    """Clips → frames, from any thread.

    Args:
        shards: folder of the shards.
        num_frames: of a clip at most, at the middles of equal parts.
        short_side_px: larger frames are scaled down to it.
    """

    def __init__(self, shards: str, num_frames: int, short_side_px: int) -> None:
        self._reader, self._num_frames = TarReader(shards), num_frames
        self._size = within_short_side(short_side_px)

    def read(self, clip: CaptionedClip) -> list[np.ndarray]:
        """(H, W, 3) uint8 each, at least one.

        Raises:
            MediaError: the clip cannot be decoded.
            OSError, ValueError: a shard cannot be read, or holds other bytes than the index says.
        """
        data = self._reader.read(clip.shard, clip.offset, clip.size, key=clip.clip_id, digest=clip.digest)
        times = clip_times(data)
        return list(clip_frames(data, times, middles(len(times.pts), self._num_frames), self._size))
