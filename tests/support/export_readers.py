"""How each tool reads an export: clip → the bytes and the caption that it gets. With the tool's own reader where that
runs here; else by the rule that its loader follows, with the version whose source was read."""

import csv
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pyarrow.parquet as pq

Read = Mapping[str, tuple[bytes, str]]
"""By clip."""
PICTURES, VIDEOS = (".png", ".jpg"), (".mp4",)


def webdataset(out: Path) -> Read:
    import webdataset as wds

    samples = wds.WebDataset([str(path) for path in sorted(out.glob("*.tar"))], shardshuffle=False)
    found = {sample["__key__"]: sample for sample in samples}
    facts = {key: json.loads(sample["json"]) for key, sample in found.items()}
    return {key: (sample[facts[key]["ext"]], sample["txt"].decode()) for key, sample in found.items()}


def hf(out: Path) -> Read:
    import datasets

    found: dict[str, tuple[bytes, str]] = {}
    for rows in datasets.load_dataset(str(out), cache_dir=str(out.parent / "cache")).values():
        kinds = [name for name in ("video", "image") if name in rows.features]
        assert all(type(rows.features[kind]).__name__ == kind.title() for kind in kinds)
        for kind in kinds:
            rows = rows.cast_column(kind, (datasets.Video if kind == "video" else datasets.Image)(decode=False))
        found |= {row["clip_id"]: (row[row["kind"]]["bytes"], row["caption"]) for row in rows}
    return found


def parquet(out: Path) -> Read:
    rows = [row for path in sorted(out.glob("data/*.parquet")) for row in pq.read_table(path).to_pylist()]
    return {row["clip_id"]: (row["media"], row["caption"]) for row in rows}


def folders(out: Path) -> Read:
    lines = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    return _pairs(out / line["file_name"] for line in lines)


def finetrainers(out: Path) -> Read:
    """What its `VideoFolderDataset` and `ImageFolderDataset` do with a folder that has `metadata.jsonl` (0.2.0)."""
    import datasets

    found: dict[str, tuple[bytes, str]] = {}
    folders = [path.parent for path in sorted(out.rglob("metadata.jsonl"))]
    assert {str(folder) for folder in folders if folder.parent.name == "train"} == {
        entry["data_root"] for entry in json.loads((out / "training.json").read_text())["datasets"]
    }
    for folder in folders:
        kind = folder.name.removesuffix("s")
        rows = datasets.load_dataset(
            f"{kind}folder", data_dir=str(folder), split="train", cache_dir=str(out.parent / "cache")
        )
        rows = rows.cast_column(kind, (datasets.Video if kind == "video" else datasets.Image)(decode=False))
        assert sorted(rows.features) == sorted(["caption", kind])
        found |= {Path(row[kind]["path"]).stem: (Path(row[kind]["path"]).read_bytes(), row["caption"]) for row in rows}
    return found


def diffusion_pipe(out: Path) -> Read:
    """As `DirectoryDataset` lists a folder: each file but those of six extensions is a picture or a video, with the
    `.txt` of its stem (utils/dataset.py, commit 0784ca8)."""
    settings = [tomllib.loads(path.read_text()) for path in sorted(out.glob("dataset*.toml"))]
    listed = [path for one in settings for entry in one["directory"] for path in sorted(Path(entry["path"]).glob("*"))]
    skipped = (".txt", ".json", ".npz", ".parquet", ".bak", ".db")
    return _pairs(path for path in listed if path.is_file() and path.suffix not in skipped)


def musubi(out: Path) -> Read:
    """As `VideoDirectoryDatasource` and `ImageDirectoryDatasource` list a folder: by extension; a caption file is read
    for every video (src/musubi_tuner/dataset, commit 00bd97a). The keys are those that its schema knows."""
    general = {"resolution", "caption_extension", "batch_size", "enable_bucket", "bucket_no_upscale"}
    of_videos = {"video_directory", "cache_directory", "frame_extraction", "max_frames", "source_fps"}
    paths: list[Path] = []
    for path in sorted(out.glob("dataset*.toml")):
        settings = tomllib.loads(path.read_text())
        assert settings.keys() == {"general", "datasets"} and settings["general"].keys() <= general
        caches = [entry["cache_directory"] for entry in settings["datasets"]]
        assert len({*caches}) == len(caches)
        for entry in settings["datasets"]:
            assert entry.keys() in (of_videos, {"image_directory", "cache_directory"})
            assert isinstance(entry.get("source_fps", 1.0), float)
            suffixes = VIDEOS if "video_directory" in entry else PICTURES
            folder = Path(entry.get("video_directory") or entry["image_directory"])
            paths += [file for file in sorted(folder.iterdir()) if file.suffix in suffixes]
    return _pairs(paths)


def litdata(out: Path) -> Read:
    from litdata import StreamingDataset

    samples = [sample for path in sorted(out.glob("*/index.json")) for sample in StreamingDataset(str(path.parent))]
    return {sample["clip_id"]: (sample["media"], sample["caption"]) for sample in samples}


def csv_table(out: Path) -> Read:
    rows = list(csv.reader((out / "clips.csv").open(newline="")))
    return {Path(path).stem: ((out / path).read_bytes(), text) for path, text in rows}


def _pairs(paths: "Iterator[Path] | list[Path]") -> Read:
    return {path.stem: (path.read_bytes(), path.with_suffix(".txt").read_text()) for path in paths}


READERS: Mapping[str, Callable[[Path], Read]] = {
    "webdataset": webdataset,
    "hf": hf,
    "parquet": parquet,
    "folders": folders,
    "finetrainers": finetrainers,
    "diffusion-pipe": diffusion_pipe,
    "musubi": musubi,
    "energon": webdataset,  # its own loader: tests/curate/export/test_energon.py
    "litdata": litdata,
    "csv": csv_table,
}
