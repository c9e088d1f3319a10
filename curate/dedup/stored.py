"""Frame hashes in files: of ten million clips they take two gigabytes. A part of them is in memory at a time."""

from collections.abc import Iterable, Iterator
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
        sample: Some of the hashes that tell.
        num_telling: How many there are.
    """

    def __init__(self, clips: Iterable[pa.Table], folder: str) -> None:
        self._folder = folder
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
        self.starts, self.sample = np.concatenate(lengths).cumsum(), np.concatenate(sample)
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

    def telling(self, count: int, *, with_mirrored: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The hashes that tell, and whose they are, `count` at a time; then their mirror images."""
        for is_mirrored in (False, True)[: 1 + with_mirrored]:
            for begin in range(0, self.num_telling, count):
                hashes = np.fromfile(f"{self._folder}/telling", "<u8", count, offset=8 * begin)
                owners = np.fromfile(f"{self._folder}/owners", OWNER, count, offset=OWNER().nbytes * begin)
                yield (mirrored(hashes), owners + OWNER(1)) if is_mirrored else (hashes, owners)

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
