"""Frame hashes in files: of ten million clips they take two gigabytes. A part of them is in memory at a time."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dedup.frame_hash import NO_HASH, mirrored

STILL_BITS = 2
"""A frame this near to the last that was searched for is not: a still clip does not crowd out its copies."""

BLOCK = 12_000_000
"""Hashes of the clips of a block: two blocks are in memory while their clips are compared."""
SAMPLED = 64
"""Of so many hashes one is looked at to divide them evenly."""
READ = 1_000_000
OWNER = np.uint32
"""Twice the number of a clip; and 1, for its mirror image."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Frames:
    """Hashes of clips that follow each other.

    Attributes:
        first: Number of the first of the clips.
        starts: (n + 1,) where the hashes of each begin.
        hashes: (m,) uint64.
    """

    first: int
    starts: np.ndarray
    hashes: np.ndarray

    def mirrored(self) -> "Frames":
        return Frames(first=self.first, starts=self.starts, hashes=mirrored(self.hashes))


class StoredHashes:
    """The hashes of all clips, and of each the frames that tell it from others.

    Args:
        clips: `clip_id` and `frame_hashes` in tables, in order of id.
        folder: for the files.

    Attributes:
        starts: (N + 1,) int64: where the hashes of each clip begin.
        blocks: (K + 1,) clips that begin blocks of about `BLOCK` hashes, and N.
        num_telling: Hashes that tell a frame from others of its clip.
        num_turned: Those that `turn` stored.
        sample: Some of them.
    """

    def __init__(self, clips: Iterable[pa.Table], folder: str) -> None:
        self._folder, self.num_turned, self.sample, self._with_mirrored = folder, 0, np.zeros(0, np.uint64), False
        lengths, sample, self.num_telling, num_clips = [np.zeros(1, np.int64)], [np.zeros(0, np.uint64)], 0, 0
        names = pa.schema([("clip_id", pa.string())])
        with (
            open(f"{folder}/hashes", "wb") as file,
            open(f"{folder}/telling", "wb") as told,
            open(f"{folder}/owners", "wb") as owned,
            pa.OSFile(f"{folder}/ids", "wb") as ids,
            pa.ipc.new_file(ids, names) as id_writer,
        ):
            for table in clips:
                id_writer.write_table(table.select(["clip_id"]).cast(names))
                blobs = pc.fill_null(table["frame_hashes"].cast(pa.large_binary()), b"").combine_chunks()
                counts = pc.binary_length(blobs).to_numpy() // 8
                begin = np.frombuffer(blobs.buffers()[1] or bytes(8), np.int64)[blobs.offset] // 8
                hashes = np.frombuffer(blobs.buffers()[2] or b"", "<u8")[begin : begin + counts.sum()]
                starts = np.concatenate([[0], counts.cumsum()])
                rows = telling(hashes, starts)
                owners = np.repeat(np.arange(num_clips, num_clips + len(counts), dtype=OWNER), counts)
                hashes.tofile(file)
                hashes[rows].tofile(told)
                (2 * owners[rows]).tofile(owned)
                sample.append(hashes[rows][::SAMPLED])
                lengths.append(counts)
                self.num_telling, num_clips = self.num_telling + len(rows), num_clips + len(counts)
        self.starts, self._sample = np.concatenate(lengths).cumsum(), np.concatenate(sample)
        marks = np.arange(0, max(self.starts[-1], 1), BLOCK)
        self.blocks = np.unique([*np.searchsorted(self.starts[:-1], marks), 0, num_clips])

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """(N,) hashes of each clip."""
        return np.diff(self.starts)

    def frames(self, block: int) -> Frames:
        """The clips of a block."""
        clips = slice(self.blocks[block], self.blocks[block + 1] + 1)
        starts = self.starts[clips]
        path, count = f"{self._folder}/hashes", int(starts[-1] - starts[0])
        hashes = np.fromfile(path, "<u8", count, offset=8 * int(starts[0]))
        return Frames(first=int(clips.start), starts=starts - starts[0], hashes=hashes)

    def turn(self, how: Callable[[np.ndarray], np.ndarray], *, with_mirrored: bool) -> None:
        """Store the hashes that tell with their bits in another order, and then those of their mirror images."""
        self.sample, self._with_mirrored = how(self._sample), with_mirrored
        self.num_turned = self.num_telling << with_mirrored
        with open(self.path("turned"), "wb") as file:
            for image in (np.asarray, mirrored)[: 1 + with_mirrored]:
                for _, hashes in self._read("telling", "<u8", READ):
                    how(image(hashes)).tofile(file)

    def turned(self, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """What `turn` stored, and whose each is, `count` at a time."""
        for is_mirrored in (False, True)[: 1 + self._with_mirrored]:
            for begin, owners in self._read("owners", OWNER, count):
                row = begin + is_mirrored * self.num_telling
                keys = np.fromfile(self.path("turned"), np.uint64, len(owners), offset=8 * row)
                yield keys, owners + OWNER(is_mirrored)

    def _read(self, name: str, kind: type[np.generic] | str, count: int) -> Iterator[tuple[int, np.ndarray]]:
        size = np.dtype(kind).itemsize
        for begin in range(0, self.num_telling, count):
            yield begin, np.fromfile(self.path(name), kind, count, offset=size * begin)

    def ids(self, rows: np.ndarray) -> pa.Array:
        """Ids of clips, ascending."""
        found, begin = [pa.array([], pa.string())], 0
        with pa.OSFile(f"{self._folder}/ids", "rb") as file:
            reader = pa.ipc.open_file(file)
            for batch in (reader.get_batch(number) for number in range(reader.num_record_batches)):
                first, last = np.searchsorted(rows, [begin, begin + batch.num_rows])
                found.append(batch["clip_id"].take(pa.array(rows[first:last] - begin)))
                begin += batch.num_rows
        return pa.concat_arrays(found)

    def path(self, name: str) -> str:
        """Of a file beside."""
        return f"{self._folder}/{name}"


def telling(hashes: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Rows of the frames that differ from the last such frame of their clip; frames without a hash tell nothing."""
    lengths = np.diff(starts)
    by_length = np.argsort(-lengths, kind="stable")
    begins, lengths = starts[:-1][by_length], lengths[by_length]
    last = np.zeros(len(lengths), np.uint64)
    found = [np.empty(0, np.int64)]
    for tick in range(int(lengths.max(initial=0))):
        rows = begins[: np.searchsorted(-lengths, -tick, side="left")] + tick  # of the clips that are longer
        now, before = hashes[rows], last[: len(rows)]
        tells = (now != NO_HASH) & ((before == NO_HASH) | (np.bitwise_count(now ^ before) > STILL_BITS))
        before[tells] = now[tells]
        found.append(rows[tells])
    return np.sort(np.concatenate(found))
