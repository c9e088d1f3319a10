"""Samples per second out of WebDataset tars, beside the pipeline of the `webdataset` library.

    python -m benchmarks.tar_inputs [--tars 4] [--samples 2000] [--kib 12] [--rounds 3]

Tars as img2dataset writes them: a picture, a text, and a .json of ten keys for each key. `webdataset` iterates over
raw samples. reelpack lists the samples (`pipelines.inputs.tars`: texts decoded, JSON parsed), then reads each picture
by its offset; `staged` copies each to local disk, as `curate` does, for which the other has no counterpart. Both give
equal keys, bytes and texts, which is compared first. CPU time of one thread, the least of the rounds, in turns.
Promise: reelpack reads at least 0.9 times as many samples per second.
"""

import argparse
import io
import json
import resource
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.machine import described
from curate.media.fetch import local_copy
from curate.media.members import member_of
from curate.media.staging import StagingConfig
from curate.storage.inside import split_member
from pipelines.inputs.sample import Sample
from pipelines.inputs.tars import read_tar

PROMISE = 0.9


def write_tars(folder: Path, num_tars: int, num_samples: int, kib: float) -> list[str]:
    """Tars of pictures of about this size, whose bytes are random."""
    rng, paths = np.random.default_rng(0), []
    for number in range(num_tars):
        path = folder / f"{number:05d}.tar"
        with tarfile.open(path, "w") as tar:
            for sample in range(num_samples):
                key = f"{number:05d}{sample:04d}"
                text = f"a photograph of object number {sample} on a table"
                facts = {"url": f"https://example.org/{key}.jpg", "caption": text, "key": key, "status": "success",
                         "error_message": None, "width": 256, "height": 256, "original_width": 800,
                         "original_height": 600, "similarity": sample / num_samples}  # fmt: skip
                size = int(kib * 1024 * rng.uniform(0.5, 1.5))
                parts = {"jpg": rng.bytes(size), "json": json.dumps(facts).encode(), "txt": text.encode()}
                for ending, data in parts.items():
                    info = tarfile.TarInfo(f"{key}.{ending}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        paths.append(str(path))
    return paths


def theirs(paths: list[str]) -> Iterator[tuple[str, bytes, str]]:
    """Key, picture and text."""
    import webdataset

    for sample in webdataset.WebDataset(paths, shardshuffle=False):
        yield sample["__key__"], sample["jpg"], sample["txt"].decode()


def samples(paths: list[str]) -> Iterator[Sample]:
    for path in paths:
        yield from (entry for entry in read_tar(path) if isinstance(entry, Sample))


def ours(paths: list[str]) -> Iterator[tuple[str, bytes, str]]:
    for sample in samples(paths):
        container, name = split_member(sample.source.uri) or ("", "")
        data = b"".join(member_of(container, name, sample.source.version).chunks())
        yield name.partition(".")[0], data, sample.text or ""


def staged(paths: list[str], config: StagingConfig) -> Iterator[str]:
    for sample in samples(paths):
        with local_copy(sample.source.uri, config, version=sample.source.version) as path:
            yield path


def cpu_s(run: Callable[[], Iterator[object]]) -> float:
    start = time.process_time()
    for _ in run():
        pass
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tars", type=int, default=4)
    parser.add_argument("--samples", type=int, default=2000, help="of each tar")
    parser.add_argument("--kib", type=float, default=12.0, help="mean size of a picture")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print(described())
    with tempfile.TemporaryDirectory() as folder:
        paths = write_tars(Path(folder), given.tars, given.samples, given.kib)
        count = 0
        for one, other in zip(theirs(paths), ours(paths), strict=True):
            assert one == other, f"{one[0]} and {other[0]} differ"
            count += 1
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        spent: dict[str, list[float]] = {"webdataset": [], "reelpack": [], "staged": []}
        for number in range(given.rounds):
            config = StagingConfig(cache_dir=f"{folder}/{number}")
            spent["webdataset"].append(cpu_s(lambda: theirs(paths)))
            spent["reelpack"].append(cpu_s(lambda: ours(paths)))
            spent["staged"].append(cpu_s(lambda config=config: staged(paths, config)))  # type: ignore[misc]
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{count} samples of {given.tars} tars, {given.kib:g} KiB each; keys, bytes and texts are equal")
    for name, seconds in spent.items():
        print(f"{name:12} {count / min(seconds):9.0f} samples/s   ({min(seconds):.2f} s of CPU)")
    ratio = min(spent["webdataset"]) / min(spent["reelpack"])
    print(f"reelpack / webdataset: {ratio:.2f} (promise: at least {PROMISE}); peak memory grew by {grown:.0f} MiB")


if __name__ == "__main__":
    main()
