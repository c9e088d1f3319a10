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

from curate.export.config import layout_of
from curate.export.shard_size import ShardSize
from curate.media.decode import decode_clip
from curate.media.still import encode_png
from curate.shards.tar import write_tar
from pipelines.cli import main
from pipelines.drivers.export import Choice, export
from tests.support.exportable import NUM_CLIPS, NUM_VAL, add_latents, media, write_dataset

LATENTS = Choice(latents="auto")


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
    assert export(url, str(tmp_path / "out"), choice=LATENTS)[0] == NUM_CLIPS - 1
    assert all("safetensors" in sample for sample in samples(tmp_path / "out").values())
    assert "1 of 9 clips have no such latents and are left out" in caplog.text
    with pytest.raises(ValueError, match="--latents goes with --to webdataset or energon; folders has clips"):
        export(url, str(tmp_path / "folder"), layout_of("folders"), LATENTS)


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
        main(["export", url, "--out", str(out), "--to", "folders"])
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
    assert {path.name for path in out.iterdir()} == {"train", "val", "metadata.jsonl", "dataset.json", "README.md"}
    assert sum(path.is_file() for path in out.rglob("*")) == 2 * NUM_CLIPS + 3
    with pytest.raises(ValueError, match="not an empty folder"):
        export(url, str(out), layout_of("parquet"))


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


def test_a_condition_over_all_columns_chooses_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url, out = write_dataset(tmp_path / "dataset"), tmp_path / "out"
    options = ["--where", "nsfw < 0.5 and licence = 'CC0'", "--split", "train"]
    with pytest.raises(SystemExit) as ended:
        main(["export", url, "--out", str(out), *options])
    assert not ended.value.code and "2 clips in" in capsys.readouterr().out
    assert sorted(int(key, 16) for key in samples(out)) == [1, 3]
    assert "those where `nsfw < 0.5 and licence = 'CC0'`" in (out / "README.md").read_text()
    with pytest.raises(SystemExit) as ended:
        main(["export", url, "--out", str(out), "--where", "nsfv < 0.5"])
    assert ended.value.code == 2 and "there is no column nsfv; the nearest is nsfw" in _one_line(capsys)
    with pytest.raises(ValueError, match="no clip meets it; a value that is not known meets nothing"):
        export(url, str(tmp_path / "none"), choice=Choice(where="nsfw > 9"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--layout", "folder"], "--layout is now --to: give --to folders"),
        (["--split", "test"], "--split test: expected one of train, val, validation"),
        (["--caption-level", "fields"], "--caption-level fields: expected one of short, dense, original, human"),
        (["--shard-size", "0"], "--shard-size 0: expected a number of clips (256) or a size (512MiB)"),
        (["--to", "tfrecord"], "--to tfrecord: no such layout"),
        (["--push", "hf://me"], "--push hf://me: expected the repository of a data set"),
    ],
)
def test_a_mistake_in_an_option_is_told_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: str
) -> None:
    url = write_dataset(tmp_path / "dataset")
    with pytest.raises(SystemExit) as ended:
        main(["export", url, "--out", str(tmp_path / "out"), *options])
    assert ended.value.code == 2 and told in _one_line(capsys) and not (tmp_path / "out").exists()


def _one_line(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("size", "expected"), [("3", [3, 3, 1, 2]), ("1KiB", [1] * 9), ("1GiB", [7, 2]), ("5KiB", None)]
)
def test_files_hold_as_many_clips_or_bytes_as_is_said(tmp_path: Path, size: str, expected: list[int] | None) -> None:
    url = write_dataset(tmp_path / "dataset", images=False)
    export(url, str(tmp_path / "out"), choice=Choice(shard_size=ShardSize.parse(size)))
    sizes = []
    for path in sorted((tmp_path / "out").glob("*.tar")):
        with tarfile.open(path) as tar:
            sizes.append([member.size for member in tar if member.name.endswith(".mp4")])
    assert sum(map(len, sizes)) == NUM_CLIPS
    assert [len(one) for one in sizes] == expected or (
        expected is None and all(sum(one) <= 5 * 2**10 for one in sizes)
    )


def test_a_folder_with_other_files_or_with_another_export_that_was_stopped_is_refused(tmp_path: Path) -> None:
    url, out = write_dataset(tmp_path / "dataset"), tmp_path / "out"
    (out / "mine").mkdir(parents=True)
    with pytest.raises(ValueError, match="is not an empty folder; give a new or an empty one"):
        export(url, str(out))
    assert {path.name for path in out.iterdir()} == {"mine"}
    (out / "mine").rmdir()
    (out / ".unfinished").mkdir()
    (out / ".unfinished/plan.json").write_text('{"plan": "another", "written": false}')
    with pytest.raises(ValueError, match="holds an export of other clips or settings that was stopped"):
        export(url, str(out))
    export(url, str(tmp_path / "whole"))
    with pytest.raises(ValueError, match="not an empty folder"):
        export(url, str(tmp_path / "whole"), choice=Choice(split="val"))


def test_clips_are_read_one_by_one(tmp_path: Path) -> None:
    """What a long export holds in memory does not grow with its clips."""
    import tracemalloc

    payload = b"x" * 2**20
    members = write_tar(
        str(tmp_path / "dataset/shards/train-000000.tar"), ((f"{n:032x}", {"mp4": payload}) for n in range(40))
    )
    row = {"kind": "video", "split": "train", "ext": "mp4", "fps": 24.0, "duration_s": 1.0, "width": 4, "height": 4}
    rows = [
        {"clip_id": m.key, "shard": m.shard, "offset": m.offset, "size": m.size, "digest": m.digest, **row}
        for m in members
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "dataset/shards/index.parquet")
    for kind in ("webdataset", "folders"):
        tracemalloc.start()
        export(str(tmp_path / "dataset"), str(tmp_path / kind), layout_of(kind))
        assert tracemalloc.get_traced_memory()[1] < 12 * 2**20
        tracemalloc.stop()
