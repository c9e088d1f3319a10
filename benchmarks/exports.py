"""A dataset in every layout of `reelpack export`, each read as its tool reads it.

    python -m benchmarks.exports DATASET [--out FOLDER]

For each layout: MB of clips written and read per second, and the clips that came back with other bytes or another
caption, which must be none. Layouts are read by the tools' own readers where those run on a CPU, else by the rule of
their loaders (`tests/support/export_readers.py`); the own loaders of Megatron-Energon and finetrainers are in tests.
"""

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.machine import described
from curate.dataset.dataset import Dataset
from curate.export.config import KINDS, layout_of
from curate.export.source import caption_of
from curate.shards.tar import TarReader, read_member
from pipelines.drivers.export import export
from tests.support.export_readers import READERS


def run(dataset: Dataset, out: Path) -> None:
    """Print the table."""
    rows, reader = dataset.read_index().to_pylist(), TarReader(dataset.layout.shards)
    expected = {row["clip_id"]: (read_member(reader, row), caption_of(row)) for row in rows}
    size = sum(len(data) for data, _ in expected.values()) / 1e6
    print(f"{described()}\n{len(rows)} clips, {size:.1f} MB\n")
    print("| layout | written, MB/s | read, MB/s | wrong |\n| --- | --- | --- | --- |")
    for kind in KINDS:
        started = time.perf_counter()
        export(dataset.url, str(out / kind), layout_of(kind))
        written = time.perf_counter()
        found = READERS[kind](out / kind)
        read = time.perf_counter()
        wrong = sum(found.get(name) != clip for name, clip in expected.items()) + len(found.keys() - expected.keys())
        print(f"| {kind} | {size / (written - started):.1f} | {size / (read - written):.1f} | {wrong} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("dataset")
    parser.add_argument("--out", help="folder of the exports; none: they are removed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run(Dataset(arguments.dataset), Path(arguments.out or scratch))


if __name__ == "__main__":
    main()
