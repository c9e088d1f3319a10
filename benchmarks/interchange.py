"""A dataset of another tool's form goes in, and datasets of nine tools' forms come out: one run, checked at its end.

    python -m benchmarks.interchange [--pairs 24] [--clips 6] [--executor ray] [--keep FOLDER]

Image–text pairs and clips are made in tars as img2dataset and video2dataset write them. The commands of a user follow:
`curate --config clip` with a relative bound of CLIP, `encode`, `train` on the texts that came along, and `export` to
every layout, with a condition. Each export is read by the tool that it is for, where that runs here, else by the rule
of that tool's loader (`tests/support/export_readers.py`; Energon's own: `tests/curate/export/test_energon.py`). Bytes
and texts must be those of the tars. CLIP's weights are random: they show that the bound works, not what is good. Exit
code 1 where something differs.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.machine import described
from curate.dataset.dataset import Dataset
from curate.export.config import KINDS
from curate.shards.tar import TarReader, read_member
from tests.support.export_readers import READERS
from tests.support.open_clip import write_tiny_open_clip
from tests.support.tars import clip, pair, write_members

BOUND_PERCENTILE = 25
SMALL_MODEL = [
    "train.model.width=48", "train.model.depth=2", "train.model.num_heads=2", "train.device=cpu", "train.steps=30",
    "train.data.plan.token_budget=512", "train.data.blend={original: 1}", "train.optimizer.warmup_steps=5",
    "train.optimizer.lr=0.002",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=24, help="images with texts")
    parser.add_argument("--clips", type=int, default=6, help="videos with texts")
    parser.add_argument("--executor", choices=["local", "ray"], default="local")
    parser.add_argument("--keep", type=Path, help="folder to work in, which stays")
    arguments = parser.parse_args()
    print(described(), flush=True)
    with tempfile.TemporaryDirectory(prefix="interchange-") as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        sys.exit(0 if run(folder, arguments) else 1)


def run(folder: Path, arguments: argparse.Namespace) -> bool:
    """From tars to exports; whether every export holds what the dataset holds."""
    texts = write_tars(folder, arguments.pairs, arguments.clips)
    dataset = curated(folder, arguments.executor)
    kept = check_texts(dataset, texts)
    reelpack("encode", dataset.url, *settings(["encode.max_area_px=6144", "execute.executor=local"]))
    reelpack("train", dataset.url, "--out", str(folder / "run"), *settings(SMALL_MODEL))
    summary = json.loads((folder / "run" / "summary.json").read_text())
    print(f"trained on their own texts: {summary['train_clips']} clips, {summary['steps']} steps", flush=True)
    equal = [exported(folder, dataset, layout, kept) for layout in KINDS]
    return all(equal)


def write_tars(folder: Path, num_pairs: int, num_clips: int) -> dict[str, str]:
    """Two tars; member → its text."""
    pairs = [pair(f"{number:09d}", number) for number in range(num_pairs)]
    clips = [clip(f"{number:09d}", 1000 + number, licence="CC0") for number in range(num_clips)]
    for name, samples in (("00000.tar", pairs), ("00001.tar", clips)):
        write_members(folder / "tars" / name, [member for sample in samples for member in sample])
    texts = {sample[0][0]: json.loads(dict(sample)[f"{sample[0][0][:9]}.json"])["caption"] for sample in pairs + clips}
    print(f"tars: {num_pairs} image–text pairs, {num_clips} clips", flush=True)
    return texts


def curated(folder: Path, executor: str) -> Dataset:
    model = folder / "open_clip"
    model.mkdir(exist_ok=True)
    write_tiny_open_clip(model)
    out = str(folder / "dataset")
    chosen = [
        "scan.detector.kind=whole", f"score.encoder.model=local-dir:{model}", f"execute.executor={executor}",
        "score.num_frames=2", "score.scorers={nsfw: null, text_area: null, brisque: null}",
        f"select.rules.text_match={{min: null, min_percentile: {BOUND_PERCENTILE}}}", "select.rules.motion=null",
        "select.split.val_fraction=0.1", "dedup.perceptual.enabled=false",
    ]  # fmt: skip
    tars = [str(path) for path in sorted((folder / "tars").iterdir())]
    reelpack("curate", *tars, "--out", out, "--config", "clip", *settings(chosen))
    dataset = Dataset(out)
    rows = dataset.read_clips().to_pylist()
    rejected = [row for row in rows if any(reason.startswith("text_match") for reason in row["reasons"])]
    if not 0 < len(rejected) < len(rows):
        raise SystemExit(f"the bound on text_match rejects {len(rejected)} of {len(rows)} clips")
    print(f"curated: {len(rows)} clips, {len(rejected)} below the {BOUND_PERCENTILE}th percentile of CLIP's score")
    return dataset


def check_texts(dataset: Dataset, texts: dict[str, str]) -> dict[str, tuple[bytes, str]]:
    """The index's clips with their bytes and texts, which must be those of the tars."""
    reader, found = TarReader(dataset.layout.shards), {}
    uris = {row["clip_id"]: row["video_uri"] for row in dataset.read_clips().to_pylist()}
    for row in dataset.read_index().to_pylist():
        wanted = texts[uris[row["clip_id"]].rpartition("/")[2]]
        if row["caption_original"] != wanted:
            raise SystemExit(f"clip {row['clip_id']}: got the text {row['caption_original']!r}, expected {wanted!r}")
        found[row["clip_id"]] = (read_member(reader, row), wanted)
    return found


def exported(folder: Path, dataset: Dataset, layout: str, kept: dict[str, tuple[bytes, str]]) -> bool:
    """One layout, of the clips with a condition; whether its reader gives them with their bytes and texts."""
    out = folder / "exports" / layout
    chosen = pq.read_table(dataset.layout.index).to_pylist()
    wanted = {row["clip_id"]: kept[row["clip_id"]] for row in chosen if row["num_frames"] >= 1}
    reelpack("export", dataset.url, "--out", str(out), "--to", layout, "--where", "num_frames >= 1")
    got: Any = READERS[layout](out)
    if layout in ("webdataset", "energon"):
        got = {name: (bytes(data), text) for name, (data, text) in got.items()}
    is_equal = dict(got) == wanted
    print(f"{layout:16} {len(got):3} clips, bytes and texts {'equal' if is_equal else 'DIFFER'}", flush=True)
    return is_equal


def settings(values: Sequence[str]) -> list[str]:
    return [word for value in values for word in ("--set", value)]


def reelpack(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pipelines.cli", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"reelpack {' '.join(words)}\nended with {done.returncode}:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main()
