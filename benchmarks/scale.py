"""Tables, decisions, duplicates, index and manifest by the number of clips: CPU seconds and peak memory of the driver.

    python -m benchmarks.scale [--rows 100000 1000000] [--against DIR] [--only first,select] [--folder DIR]

Generated rows: films of 100 clips of 3 s, 24 frame hashes that drift, 1 % copies, four scores, embeddings of 16
numbers, two captions, places in shards, latents and texts. Each command runs in a process of its own:

first     `select` without a cache: joins the tables, finds duplicates and clusters, decides, writes the index
select    `select` of another threshold
manifest  the training manifest, and the bytes of it that stay for each row
explain   one clip's story
status    `reelpack status`

`--against` names another checkout (`git worktree add DIR COMMIT`): it reads the same rows, in turn with this one.
Figures are CPU seconds of all threads without imports, and VmHWM.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CLIPS_PER_VIDEO, CLIP_S, FPS, TICKS = 100, 3, 24, 24
ROWS_PER_PART = 20_000
COPIES = 0.01
EMBEDDING_DIM = 16
WORDS = "a big gray rabbit stands in green meadow and looks at two small birds".split()  # noqa: SIM905


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000])
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--only", default=",".join(MEASURES), help="commands, with commas; `first` comes first")
    parser.add_argument("--folder", type=Path, help="for the datasets, which stay there; default: a temporary one")
    parser.add_argument("--measure", choices=["make", *MEASURES], help=argparse.SUPPRESS)  # in a process of its own
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measured(arguments.measure, str(arguments.folder), arguments.rows[0])))
        return
    here = Path(__file__).resolve().parents[1]
    trees = {"here": here} | ({"before": arguments.against.resolve()} if arguments.against else {})
    for name, tree in trees.items():
        print(name, _python(tree, "-c", "from benchmarks.machine import described; print(described())").strip())
    with tempfile.TemporaryDirectory(prefix="scale-") as temporary:
        for num_rows in arguments.rows:
            folders = {name: (arguments.folder or Path(temporary)) / f"{name}-{num_rows}" for name in trees}
            compare(trees, folders, num_rows, arguments.only.split(","))


def compare(trees: dict[str, Path], folders: dict[str, Path], num_rows: int, names: list[str]) -> None:
    print(f"\n| {num_rows:,} rows | tree | CPU s | µs a row | wall s | peak MiB | |\n|---|---|---|---|---|---|---|")
    for name in ["make", *names]:
        seconds = {}
        for label, tree in trees.items():
            if name == "make" and folders[label].exists():
                continue
            text = _python(tree, __file__, "--measure", name, "--folder", str(folders[label]), "--rows", str(num_rows))
            found = json.loads(text.splitlines()[-1])
            seconds[label] = found.pop("cpu_s")
            cells = [f"{seconds[label]:.2f}", f"{seconds[label] / num_rows * 1e6:.1f}", f"{found.pop('wall_s'):.1f}"]
            ratio = {"ratio": round(seconds["here"] / seconds[label], 3)} if len(seconds) > 1 else {}
            print(
                "|",
                " | ".join([name, label, *cells, f"{found.pop('peak_mib')}", str({**found, **ratio})]),
                "|",
                flush=True,
            )


def _python(tree: Path, *arguments: str) -> str:
    """What Python prints, of a process that imports the packages of `tree`."""
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", *arguments]
    return subprocess.run(command, env=environment, cwd=tree, check=True, text=True, stdout=subprocess.PIPE).stdout


def measured(name: str, folder: str, num_rows: int) -> dict[str, Any]:
    """Call and measure one command on a dataset."""
    prepare = MEASURES[name] if name != "make" else lambda folder: lambda: make(folder, num_rows)
    call = prepare(folder)
    cpu, wall = time.process_time(), time.perf_counter()
    found = call()
    return {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall, "peak_mib": peak_mib()} | found


def peak_mib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024


# --- Commands: what is imported is not measured


def _select(folder: str, low: float) -> Callable[[], dict[str, Any]]:
    select = _first("select", "pipelines.select_clips", "pipelines.drivers.select")
    rule = "select.motion.min" if select.__module__ == "pipelines.select_clips" else "select.rules.motion.min"

    def call() -> dict[str, Any]:
        found = select(folder, overrides=[f"{rule}={low}"])
        names = ("keep", "reject", "reject:duplicate", "failed", "pending")
        return {**{name: found.after.get(name, 0) for name in names}, "indexed": found.num_indexed}

    return call


def _manifest(folder: str) -> Callable[[], dict[str, Any]]:
    from train.data.manifest import read_manifest

    def call() -> dict[str, Any]:
        manifest = read_manifest(folder, split="train", patch=(1, 2, 2))
        arrays = (manifest.grids, manifest.keys, manifest.weights, manifest.sources)
        num_bytes = manifest.table.nbytes + sum(array.nbytes for array in arrays)
        return {
            "rows": len(manifest),
            "bytes a row": round(manifest.table.nbytes / len(manifest)),
            "with arrays": round(num_bytes / len(manifest)),
        }

    return call


def _explain(folder: str) -> Callable[[], dict[str, Any]]:
    explain = _first("explain", "pipelines.explain", "pipelines.inspection.explain")
    clip = pq.ParquetFile(f"{folder}/clips.parquet").read_row_group(0, ["clip_id"])["clip_id"][7].as_py()
    return lambda: {"measures": len(explain(folder, clip).measures)}


def _status(folder: str) -> Callable[[], dict[str, Any]]:
    status = _first("status", "pipelines.status", "pipelines.inspection.status")
    return lambda: {"cut": status(folder).num_cut}


MEASURES: dict[str, Callable[[str], Callable[[], dict[str, Any]]]] = {
    "first": lambda folder: _select(folder, 0.1),
    "select": lambda folder: _select(folder, 0.2),
    "manifest": _manifest,
    "explain": _explain,
    "status": _status,
}


# --- Generated tables


def make(folder: str, num_rows: int) -> dict[str, Any]:
    """Write a dataset of `num_rows` clips as `curate`, `caption` and `encode` leave one, without media."""
    dataset_class = _first("Dataset", "pipelines.dataset", "curate.dataset.dataset")
    dataset, family = dataset_class(folder), "model-000000000000"
    # Of a row group of a part, where this checkout has small ones.
    write = partial(_write, row_group=getattr(sys.modules[type(dataset.clips).__module__], "PART_GROUP", None))
    tables = (dataset.clips, dataset.videos, dataset.shards, dataset.captions(family))
    clips, videos, shards, captions = (table.schema for table in tables)
    config, scan_key = _settings()
    families = [f"{name}-{'0' * 12}" for name in ("embedding", *map("nothing_{}".format, range(4)))]
    encoded = {kind: _Appended(f"{folder}/{kind}/aa/index.parquet") for kind in ("latents", "text")}
    for number, start in enumerate(range(0, num_rows, ROWS_PER_PART)):
        rng = np.random.default_rng(number)
        count = min(ROWS_PER_PART, num_rows - start)
        part = _clips(rng, start, count, scan_key, clips)
        ids = part["clip_id"]
        write(f"{folder}/tables/clips", number, clips, part)
        write(f"{folder}/tables/videos", number, videos, _videos(start, count, scan_key))
        for scores in families[1:]:
            column = scores.partition("-")[0]
            schema = pa.schema([("clip_id", pa.string()), (column, pa.float64())], clips.metadata)
            write(f"{folder}/tables/scores/{scores}", number, schema, {"clip_id": ids, column: rng.random(count)})
        schema = pa.schema(
            [("clip_id", pa.string()), ("embedding", pa.list_(pa.float32(), EMBEDDING_DIM))], clips.metadata
        )
        numbers = pa.array(rng.standard_normal(count * EMBEDDING_DIM, np.float32))
        vectors = pa.FixedSizeListArray.from_arrays(numbers, EMBEDDING_DIM)
        write(f"{folder}/tables/scores/{families[0]}", number, schema, {"clip_id": ids, "embedding": vectors})
        places = {
            "clip_id": ids,
            "split": ["train"] * count,
            "shard": np.char.mod("train-%06d.tar", start // 1000 + np.arange(count) // 1000),
            "offset": np.arange(count) % 1000 * 60_000,
            "size": rng.integers(30_000, 60_000, count),
            "digest": _hex(rng, count),
            "height": np.full(count, 720),
            "width": np.full(count, 1280),
            "num_frames": np.full(count, CLIP_S * FPS),
            "fps": np.full(count, float(FPS)),
        }
        cut = {"cut_key": [config.shards.key] * count, "ext": ["mp4"] * count, "duration_s": np.full(count, CLIP_S)}
        write(f"{folder}/tables/shards", number, shards, places | cut)
        of_clips = _captions(rng, ids, places["digest"], captions)
        write(f"{folder}/tables/captions/{family}", number, captions, of_clips)
        sides = {f"latent_{axis}": rng.integers(4, 20, count) * 2 for axis in "thw"}
        window = {"media_digest": places["digest"], "window": np.zeros(count, np.int32)}
        encoded["latents"].append(places | sides | window)
        encoded["text"].append(places)
    for kind, record in {"latents": {"channels": 4}, "text": {"dim": 8}}.items():
        encoded[kind].close()
        Path(folder, kind, "aa", "fingerprint.json").write_text(json.dumps({"fingerprint": "aa", **record}))
    texts = ("clip_id", "video_uri", "decision", "duplicate_group")
    decided = [("duration_s", pa.float64()), *((name, pa.string()) for name in texts)]
    decided += [("reasons", pa.list_(pa.string()))]
    pq.write_table(pa.schema(decided).empty_table(), f"{folder}/clips.parquet")
    Path(folder, "shards").mkdir()
    pq.write_table(
        _first("INDEX", "pipelines.tables", "curate.dataset.schemas").empty_table(), f"{folder}/shards/index.parquet"
    )
    dataset.save_section("curate", {"inputs": [], "families": families, **config.model_dump(mode="json")})
    dataset.save_section("caption_family", family)
    return {"MiB": sum(file.stat().st_size for file in Path(folder).rglob("*.parquet")) // 2**20}


def _first(name: str, *modules: str) -> Any:
    """From the first of the modules that has it; an earlier checkout has the earlier ones."""
    for module in modules:
        with suppress(ModuleNotFoundError, AttributeError):
            return getattr(importlib.import_module(module), name)
    raise ModuleNotFoundError(f"this checkout has no {name} in {', '.join(modules)}")


def _settings() -> tuple[Any, str]:
    """The configuration, without scorers, and the key of scans under it."""
    from pipelines.config import load_config

    try:
        config = load_config(overrides=["score.scorers=[]"])
    except ValueError:
        config = load_config(overrides=["score.scorers=null"])
    if hasattr(config.scan, "key"):
        return config, config.scan.key
    return config, _first("ScanKeys", "curate.scan")(config.scan).of("film.mp4")


class _Appended:
    """A Parquet file of several parts."""

    def __init__(self, path: str) -> None:
        Path(path).parent.mkdir(parents=True)
        self._path, self._file = path, cast(Any, None)

    def append(self, columns: dict[str, Any]) -> None:
        table = pa.table(columns)
        self._file = self._file or pq.ParquetWriter(self._path, table.schema)
        self._file.write_table(table)

    def close(self) -> None:
        self._file.close()


def _write(folder: str, number: int, schema: pa.Schema, columns: dict[str, Any], row_group: int | None = None) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    table = _table(schema, columns).sort_by(schema.names[0])
    pq.write_table(table, f"{folder}/part-{number:06d}-merged-00000000.parquet", row_group)


def _table(schema: pa.Schema, columns: dict[str, Any]) -> pa.Table:
    """Columns that are not given are null."""
    count = len(next(iter(columns.values())))
    arrays = (pa.array(columns[field.name]).cast(field.type) if field.name in columns else pa.nulls(count, field.type)
              for field in schema)  # fmt: skip
    return pa.Table.from_arrays(list(arrays), schema=schema)


def _hex(rng: np.random.Generator, count: int) -> np.ndarray:
    text = rng.bytes(16 * count).hex()
    return np.frombuffer(text.encode(), "S32").astype("U32")


def _video_ids(start: int, count: int) -> Iterator[tuple[int, str]]:
    for video in range(start // CLIPS_PER_VIDEO, -(-(start + count) // CLIPS_PER_VIDEO)):
        yield video, f"{video:032x}"


def _videos(start: int, count: int, scan_key: str) -> dict[str, Any]:
    videos = list(_video_ids(start, count))
    num = len(videos)
    return {
        "uri": [f"/films/a folder/{video:08d}.mp4" for video, _ in videos],
        "version": ["1"] * num,
        "scan_key": [scan_key] * num,
        "outcome": ["ok"] * num,
        "video_id": [name for _, name in videos],
        "size_bytes": np.full(num, 150_000_000),
        "kind": ["video"] * num,
        "duration_s": np.full(num, float(CLIPS_PER_VIDEO * CLIP_S)),
    }


def _clips(rng: np.random.Generator, start: int, count: int, scan_key: str, schema: pa.Schema) -> dict[str, Any]:
    ticks = CLIP_S * FPS * 512
    place = np.arange(start, start + count) % CLIPS_PER_VIDEO
    flips = np.uint64(1) << rng.integers(1, 64, (2, count, TICKS), dtype=np.uint64)
    flips[0, :, 0] ^= rng.integers(2, 2**63, count, dtype=np.uint64) * np.uint64(2)
    hashes = np.bitwise_xor.accumulate(flips[0] ^ flips[1], axis=1)
    copies, originals = np.split(rng.permutation(count)[: 2 * round(COPIES * count)], 2)
    hashes[copies] = hashes[originals] ^ np.uint64(6)
    hashes[(hashes == 0).any(1)] = 2
    blobs = pa.FixedSizeBinaryArray.from_buffers(pa.binary(8 * TICKS), count, [None, pa.py_buffer(hashes.tobytes())])
    # Shares of black, frozen and covered time are small where a film is any good.
    names = [field.name for field in schema if pa.types.is_floating(field.type)]
    signals = {name: rng.random(count) ** (20 if "fraction" in name else 1) for name in names}
    return {
        "clip_id": _hex(rng, count),
        "video_id": [f"{video:032x}" for video in (np.arange(start, start + count) // CLIPS_PER_VIDEO).tolist()],
        "scan_key": [scan_key] * count,
        "kind": ["video"] * count,
        "start_pts": place * ticks,
        "end_pts": (place + 1) * ticks,
        "time_base": [f"1/{FPS * 512}"] * count,
        "fps": [str(FPS)] * count,
        "width": np.full(count, 1280),
        "height": np.full(count, 720),
        "num_frames": np.full(count, CLIP_S * FPS),
        "frame_hashes": blobs,
        **signals,
    }


def _captions(rng: np.random.Generator, ids: np.ndarray, digests: np.ndarray, schema: pa.Schema) -> dict[str, Any]:
    """A short and a dense caption of each clip, with the text-clip score where the schema has one."""
    count = 2 * len(ids)
    short = np.array([" ".join(rng.permutation(WORDS)[:6]) for _ in range(100)])
    dense = np.array([" ".join(rng.choice(WORDS, 40)) for _ in range(100)])
    places = pa.array(np.arange(count + 1), pa.int32())
    required = {
        field.name: np.zeros(count, int) if pa.types.is_integer(field.type) else [""] * count
        for field in schema
        if not field.nullable and not pa.types.is_list(field.type)
    }
    columns = required | {
        "clip_id": np.repeat(ids, 2),
        "media_digest": np.repeat(digests, 2),
        "level": ["short", "dense"] * len(ids),
        "kind": ["short", "dense"] * len(ids),
        "status": ["ok"] * count,
        "text": np.stack([texts[rng.integers(0, 100, len(ids))] for texts in (short, dense)], 1).ravel(),
        "frame_indices": pa.ListArray.from_arrays(places, pa.array(np.zeros(count, int))),
        "frame_times_s": pa.ListArray.from_arrays(places, pa.array(np.zeros(count))),
    }
    if "findings" in schema.names:
        fields = list(schema.field("findings").type.value_type)
        values = {"code": ["caption_match"] * count, "status": ["ok"] * count, "value": rng.random(count)}
        arrays = [
            pa.array(values[field.name], field.type) if field.name in values else pa.nulls(count, field.type)
            for field in fields
        ]
        columns["findings"] = pa.ListArray.from_arrays(places, pa.StructArray.from_arrays(arrays, fields=fields))
    return columns


if __name__ == "__main__":
    main()
