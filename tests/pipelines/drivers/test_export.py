"""What other tools read: every sample has the same members, and every .json the same keys and types."""

import json
import tarfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.media.decode import decode_clip
from curate.media.encode import encode_mp4
from curate.media.still import encode_png
from curate.shards.tar import write_tar
from curate.storage.tensors import arrays_to_bytes
from pipelines.cli import main
from pipelines.drivers.export import export
from tests.support.videos import moving

NUM_CLIPS, NUM_VAL = 9, 2


def media(number: int, *, images: bool) -> tuple[str, bytes]:
    if images and number % 3 == 1:
        return "png", encode_png(moving(number, 0.1, (64, 48))[0])
    return "mp4", encode_mp4(moving(number, 0.5, (64, 48)), 12)


def write_dataset(root: Path, *, images: bool = True, uncaptioned: frozenset[int] = frozenset(range(6))) -> str:
    """Shards and their index: in an order of ids in which nulls come first, some captions, numbers and all latents
    but one are missing."""
    rows = []
    for split, numbers in (("train", range(NUM_CLIPS - NUM_VAL)), ("val", range(NUM_CLIPS - NUM_VAL, NUM_CLIPS))):
        samples = {f"{number:032x}": media(number, images=images) for number in numbers}
        members = write_tar(
            str(root / f"shards/{split}-000000.tar"), ((name, dict([part])) for name, part in samples.items())
        )
        for number, member in zip(numbers, members, strict=True):
            captioned = number not in uncaptioned
            rows.append(
                {
                    "clip_id": member.key,
                    "kind": "image" if member.ext == "png" else "video",
                    "split": split,
                    "shard": member.shard,
                    "ext": member.ext,
                    "offset": member.offset,
                    "size": member.size,
                    "digest": member.digest,
                    "num_frames": 1 if member.ext == "png" else 6,
                    "fps": 12.0,
                    "caption_short": f"short {number}" if captioned else None,
                    "caption_dense": f"dense {number}, é" if captioned and number % 2 else None,
                    "title": None if number < 6 else f"title {number}",
                    "rating": None if number < 6 else number + 0.5,
                    "score": float("nan") if number == 7 else 1.0,
                    "views": number,
                    "tags": [] if number < 6 else ["a"],
                }
            )
    pq.write_table(pa.Table.from_pylist(rows), root / "shards/index.parquet")
    return str(root)


def add_latents(root: Path) -> None:
    folder = root / "latents/lat0"
    names = [f"{number:032x}" for number in range(NUM_CLIPS - 1)]
    payload = arrays_to_bytes({"latent": np.zeros((4, 1, 2, 2), np.float16)})
    members = write_tar(str(folder / "all-000000.tar"), ((name, {"safetensors": payload}) for name in names))
    rows = [
        {"clip_id": m.key, "shard": m.shard, "offset": m.offset, "size": m.size, "digest": m.digest} for m in members
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "index.parquet")
    (folder / "fingerprint.json").write_text(json.dumps({"fingerprint": "lat0", "channels": 4}))


def samples(out: Path) -> dict[str, dict[str, bytes]]:
    found: dict[str, dict[str, bytes]] = defaultdict(dict)
    for path in sorted(out.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, ext = member.name.partition(".")
                found[key][ext] = tar.extractfile(member).read()
    return found


def of_type(value: Any) -> str:
    return type(value).__name__


@pytest.mark.parametrize("images", [False, True])
def test_every_sample_has_the_same_members_and_facts_of_the_same_types(tmp_path: Path, images: bool) -> None:
    url = write_dataset(tmp_path / "dataset", images=images)
    assert export(url, str(tmp_path / "out")) == (NUM_CLIPS, 3)
    found = samples(tmp_path / "out")
    expected = {"mp4", "txt", "json"} | ({"png"} if images else set())
    assert len(found) == NUM_CLIPS and all(sample.keys() == expected for sample in found.values())
    facts = {key: json.loads(sample["json"]) for key, sample in found.items()}
    assert len({tuple(sorted((name, of_type(value)) for name, value in of.items())) for of in facts.values()}) == 1
    last, first = facts[f"{8:032x}"], facts[f"{0:032x}"]
    assert (last["title"], last["rating"], last["views"], last["tags"]) == ("title 8", "8.5", 8, '["a"]')
    assert (first["title"], first["rating"], first["views"], first["tags"]) == ("", "", 0, "[]")
    assert (facts[f"{7:032x}"]["score"], first["score"], first["fps"]) == ("", "1.0", 12.0)
    texts = {int(key, 16): sample["txt"].decode() for key, sample in found.items()}
    assert texts == {**dict.fromkeys(range(6), ""), 6: "short 6", 7: "dense 7, é", 8: "short 8"}


def test_an_image_is_also_a_video_and_a_clips_first_frame_an_image(tmp_path: Path) -> None:
    export(write_dataset(tmp_path / "dataset"), str(tmp_path / "out"))
    for key, sample in samples(tmp_path / "out").items():
        ext, original = media(int(key, 16), images=True)
        assert sample[ext] == original
        clip, image = decode_clip(sample["mp4"]).rgb, decode_clip(sample["png"]).rgb
        assert (json.loads(sample["json"])["kind"] == "image") == (ext == "png") == (len(clip) == 1)
        assert image.shape == clip[:1].shape
        difference = np.abs(image.astype(int) - clip[:1])
        assert difference.mean() < 6 if ext == "png" else not difference.any()


def test_clips_without_latents_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    url = write_dataset(tmp_path / "dataset")
    add_latents(tmp_path / "dataset")
    assert export(url, str(tmp_path / "out"), latents="auto")[0] == NUM_CLIPS - 1
    assert all("safetensors" in sample for sample in samples(tmp_path / "out").values())
    assert "1 of 9 clips have no such latents and are left out" in caplog.text
    with pytest.raises(ValueError, match="--latents goes with --layout webdataset"):
        export(url, str(tmp_path / "folder"), latents="auto", layout="folder")


@pytest.mark.parametrize("images", [False, True])
def test_huggingface_datasets_opens_it(tmp_path: Path, images: bool) -> None:
    datasets = pytest.importorskip("datasets")
    export(write_dataset(tmp_path / "dataset", images=images), str(tmp_path / "out"))
    opened = datasets.load_dataset("webdataset", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    expected, met = samples(tmp_path / "out"), 0
    for split in opened.values():
        split = split.cast_column("mp4", datasets.Video(decode=False))
        if images:
            split = split.cast_column("png", datasets.Image(decode=False))
        for row in split:
            sample = expected[row["__key__"]]
            assert row["mp4"]["bytes"] == sample["mp4"] and row["txt"] == sample["txt"].decode()
            assert row["json"] == json.loads(sample["json"])
            assert not images or row["png"]["bytes"] == sample["png"]
            met += 1
    assert met == NUM_CLIPS and sorted(opened) == ["train", "validation"]


def test_a_folder_has_each_clip_beside_its_caption(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    url, out = write_dataset(tmp_path / "dataset"), tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        main(["export", url, "--out", str(out), "--layout", "folder"])
    assert not ended.value.code and "9 clips in" in capsys.readouterr().out
    lines = {line["clip_id"]: line for line in map(json.loads, (out / "metadata.jsonl").read_text().splitlines())}
    assert len(lines) == NUM_CLIPS
    for key, line in lines.items():
        ext, original = media(int(key, 16), images=True)
        path = out / line["file_name"]
        split = "val" if int(key, 16) >= NUM_CLIPS - NUM_VAL else "train"
        assert path == out / split / ("images" if ext == "png" else "videos") / f"{key}.{ext}"
        assert path.read_bytes() == original
        assert path.with_suffix(".txt").read_text() == (line["caption_dense"] or line["caption_short"])
    assert {path.name for path in out.iterdir()} == {"train", "val", "metadata.jsonl", "dataset.json"}
    assert sum(path.is_file() for path in out.rglob("*")) == 2 * NUM_CLIPS + 2
    with pytest.raises(ValueError, match="not an empty folder"):
        export(url, str(out), layout="folder")


def test_a_clip_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    url = write_dataset(tmp_path / "dataset")
    broken = [
        (f"{1:032x}", {"png": encode_png(np.zeros((8, 8, 3), np.uint8))}),
        (f"{2:032x}", {"mp4": b"no video" * 99}),
    ]
    members = write_tar(str(tmp_path / "dataset/shards/train-000000.tar"), broken)
    rows = pq.read_table(tmp_path / "dataset/shards/index.parquet").to_pylist()[1:3]
    rows = [
        {**row, "offset": m.offset, "size": m.size, "digest": m.digest} for row, m in zip(rows, members, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "dataset/shards/index.parquet")
    with pytest.raises(ValueError, match=f"clip {2:032x} cannot be decoded .*reelpack verify"):
        export(url, str(tmp_path / "out"))
