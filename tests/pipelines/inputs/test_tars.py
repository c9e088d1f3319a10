"""WebDataset tars as inputs: the samples that the library reads, and typed failures for those that it would lose."""

import io
import json
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import webdataset

from curate.media.fetch import local_copy
from curate.media.staging import StagingConfig
from curate.schema import FailureKind
from curate.shards.tar import TarReader, read_member
from curate.storage.inside import split_member
from pipelines.config import load_config
from pipelines.drivers.curate import CurateSummary, curate
from pipelines.drivers.retry import retry
from pipelines.inputs.listing import Listing, list_inputs
from pipelines.inspection.explain import files_named
from pipelines.inspection.status import status
from pipelines.inspection.verify import verify
from tests.support.tars import SETTINGS, clip, jpg, mp4, pair, write_members


def listed(*inputs: Path | str, left_out: list[str] | None = None) -> Listing:
    return list_inputs([str(one) for one in inputs], leave_out=(left_out if left_out is not None else []).append)


def told(listing: Listing) -> dict[str, tuple[FailureKind, str]]:
    return {failure.subject.rpartition("/")[2]: (failure.kind, failure.detail) for failure in listing.failures}


def names(listing: Listing) -> list[str]:
    return [split_member(source.uri)[1] for source in listing.sources]  # type: ignore[index]


def test_keys_bytes_texts_and_columns_are_those_of_the_library(tmp_path: Path) -> None:
    members = [
        *pair("a", 1), *pair("deep/er/b", 2), *clip("c.with", 3), *pair("v1.0/d", 4), ("UPPER.JPG", jpg(5)),
        ("UPPER.TXT", b"an upper case name"), ("__meta__", b"x"), ("e.left.jpg", jpg(6)), ("e.npy", b"1"),
    ]  # fmt: skip
    tar = write_members(tmp_path / "00000.tar", members)
    listing = listed(tar)
    theirs = {}
    for sample in webdataset.WebDataset(str(tar), shardshuffle=False):
        ending = next(name for name in sample if name.rpartition(".")[2] in ("jpg", "mp4"))
        theirs[sample["__key__"], sample[ending]] = sample
    ours = {}
    own = {row["uri"]: row for row in listing.own.to_pylist()} if listing.own else {}
    for source in listing.sources:
        with local_copy(source.uri, StagingConfig(cache_dir=str(tmp_path)), version=source.version) as path:
            data = Path(path).read_bytes()
        key = webdataset.tariterators.base_plus_ext(split_member(source.uri)[1])[0]  # type: ignore[index]
        ours[key, data] = own.get(source.uri, {})
    assert ours.keys() == theirs.keys()
    assert len(ours) == 6
    for both, sample in theirs.items():
        text = sample.get("txt", b"").decode() or json.loads(sample.get("json", b"{}")).get("caption")
        assert ours[both].get("caption") == text
    assert not listing.failures


def test_mixed_tars_are_curated_with_their_texts_and_columns(tmp_path: Path) -> None:
    write_members(tmp_path / "in/00000.tar", [*pair("0", 1, licence="CC0"), *clip("1", 2, licence="CC0")])
    write_members(tmp_path / "in/00001.tar", [*pair("0", 3, licence="bought"), *pair("1", 4)])
    out = tmp_path / "dataset"
    settings = [*SETTINGS, "select.rules.licence.in=[CC0]"]
    result = curate([f"{tmp_path}/in/{{00000..00001}}.tar"], str(out), load_config(overrides=settings))
    assert (result.num_inputs, result.num_failed_inputs, result.num_indexed) == (4, 0, 2)
    rows = pq.read_table(out / "shards/index.parquet").to_pylist()
    assert {(row["kind"], row["caption_original"], row["licence"]) for row in rows} == {
        ("image", "a picture of squares, number 1", "CC0"),
        ("video", "a sliding picture of squares, number 2", "CC0"),
    }
    assert {row["own_width"] for row in rows} == {128, None}
    again = curate([f"{tmp_path}/in"], str(out), load_config(overrides=settings))
    assert (again.num_frames_decoded, again.num_indexed) == (0, 2)
    assert not [check for check in verify(str(out)) if check.problems]
    (story,) = files_named(str(out), "00000.tar//1.mp4")
    assert story.video["uri"] == f"{tmp_path}/in/00000.tar//1.mp4"


def test_clips_that_are_cut_already_keep_their_bytes(tmp_path: Path) -> None:
    tar = write_members(tmp_path / "0.tar", clip("a", 1))
    settings = [*SETTINGS, "shards.encode.mode=copy"]
    curate([str(tar)], str(tmp_path / "out"), load_config(overrides=settings))
    (row,) = pq.read_table(tmp_path / "out/shards/index.parquet").to_pylist()
    assert read_member(TarReader(str(tmp_path / "out/shards")), row) == mp4(1)


def test_a_member_is_told_where_it_is_no_sample_and_the_others_are_read(tmp_path: Path) -> None:
    one, other = jpg(1), jpg(2)
    members = [
        *pair("good", 3),
        ("._good.jpg", b"x"), ("__MACOSX/._good.jpg", b"x"), (".DS_Store", b"x"), ("README", b"x"),
        ("twice.jpg", one), ("twice.jpg", other), ("twice.txt", b"two of a name"),
        ("split.jpg", one), ("between.jpg", other), ("split.txt", b"its picture is further up"),
        ("bare.txt", b"no picture"), ("latin.jpg", jpg(4)), ("latin.txt", "é".encode("latin-1")),
        ("list.jpg", jpg(5)), ("list.json", b"[1]"), ("../../etc/x.jpg", jpg(6)), ("/root.jpg", jpg(7)),
    ]  # fmt: skip
    left_out: list[str] = []
    listing = listed(write_members(tmp_path / "0.tar", members), left_out=left_out)
    assert sorted(names(listing)) == sorted(
        ["../../etc/x.jpg", "/root.jpg", "between.jpg", "good.jpg", "latin.jpg", "list.jpg"]
    )
    found = told(listing)
    assert {name: kind for name, (kind, _) in found.items()} == {
        "twice.jpg": FailureKind.DUPLICATE,
        "split": FailureKind.DUPLICATE,
        "bare": FailureKind.MISSING,
        "latin.txt": FailureKind.CORRUPT,
        "list.json": FailureKind.CORRUPT,
    }
    with tarfile.open(tmp_path / "0.tar") as tar:
        offsets = [info.offset_data for info in tar if info.name == "twice.jpg"]
    assert all(f"byte {offset}" in found["twice.jpg"][1] for offset in offsets)
    assert {path.rpartition("/")[2] for path in left_out} == {"._good.jpg", ".DS_Store", "README"}
    assert len(left_out) == 4
    for source in listing.sources:
        with local_copy(source.uri, StagingConfig(cache_dir=str(tmp_path / "cache"))) as path:
            assert str(tmp_path / "cache") in path  # a name of a member is no place
            assert Path(path).read_bytes().startswith(b"\xff\xd8")
    assert not list(tmp_path.glob("**/x.jpg"))


def test_a_sample_over_two_tars_is_told_with_both(tmp_path: Path) -> None:
    write_members(tmp_path / "0.tar", [*pair("a", 1), ("b.jpg", jpg(2))])
    write_members(tmp_path / "1.tar", [("b.txt", b"the text of the picture"), *pair("c", 3)])
    listing = listed(tmp_path)
    assert names(listing) == ["a.jpg", "b.jpg", "c.jpg"]
    kind, detail = told(listing)["b"]
    assert kind is FailureKind.MISSING
    assert f"the rest of it is in {tmp_path}/0.tar" in detail


@pytest.mark.parametrize(
    ("damage", "kind", "whole"),
    [
        (lambda data: data[: len(data) // 2], FailureKind.TRUNCATED, 3),
        (lambda data: data[: data.index(b"3.jpg")] + b"\xff" * 600 + data[data.index(b"3.jpg") + 600 :],
         FailureKind.CORRUPT, 3),
        (lambda data: data + data, FailureKind.CORRUPT, 6),
        (lambda data: b"words, and no tar\n" * 100, FailureKind.NOT_MEDIA, 0),
        (lambda data: b"\x1f\x8b\x08\0" + data, FailureKind.NOT_MEDIA, 0),
        (lambda data: b"", FailureKind.NOT_MEDIA, 0),
    ],
    ids=["cut off", "damaged header", "two tars", "no tar", "compressed", "empty"],
)  # fmt: skip
def test_the_samples_before_the_damage_are_read(tmp_path: Path, damage, kind: FailureKind, whole: int) -> None:
    tar = write_members(tmp_path / "0.tar", [(f"{number}.jpg", jpg(number)) for number in range(6)])
    tar.write_bytes(damage(tar.read_bytes()))
    listing = listed(tar)
    assert len(listing.sources) == whole
    assert [failure.kind for failure in listing.failures] == [kind]


def test_a_tar_without_media_is_one_failure(tmp_path: Path) -> None:
    tar = write_members(tmp_path / "0.tar", [(f"{number}.npy", b"1") for number in range(100)])
    (failure,) = listed(tar).failures
    assert failure.kind is FailureKind.NOT_MEDIA
    assert "none of its 100 samples" in failure.detail
    assert ".npy" in failure.detail


def test_what_a_folder_holds_beside_samples_is_left_out(tmp_path: Path) -> None:
    write_members(tmp_path / "in/latents.tar", [("a.safetensors", b"1")])
    write_members(tmp_path / "in/0.tar", pair("a", 1))
    curate([str(tmp_path / "in/0.tar")], str(tmp_path / "in/dataset"), load_config(overrides=SETTINGS))
    left_out: list[str] = []
    listing = listed(tmp_path / "in", left_out=left_out)
    assert (names(listing), listing.failures) == (["a.jpg"], [])
    assert sorted(left_out) == [f"{tmp_path}/in/dataset", f"{tmp_path}/in/latents.tar"]
    named = listed(tmp_path / "in/dataset")
    assert len(named.sources) == 1
    assert named.sources[0].uri.startswith(f"{tmp_path}/in/dataset/shards/")


def test_a_sidecar_stands_over_what_a_tar_says(tmp_path: Path) -> None:
    tar, sidecar = write_members(tmp_path / "0.tar", [*pair("a", 1, licence="CC0"), *pair("b", 2)]), tmp_path / "s.csv"
    sidecar.write_text("path,licence,year\n0.tar//a.jpg,bought,1999\nb.jpg,CC-BY,2000\n")
    for given, expected in ((str(sidecar), ["bought", "CC-BY"]), (None, ["CC0", None])):
        curate([str(tar)], str(tmp_path / "out"), load_config(overrides=SETTINGS), sidecar=given)
        rows = pq.read_table(tmp_path / "out/clips.parquet").sort_by("video_uri")
        assert rows["licence"].to_pylist() == expected
        assert rows["year"].to_pylist() == ["1999", "2000"]
        assert rows["own_width"].to_pylist() == [128, 128]


def test_failures_are_counted_and_go_when_the_tar_is_mended(tmp_path: Path) -> None:
    def run(*members: tuple[str, bytes]) -> CurateSummary:
        write_members(tmp_path / "in/0.tar", [*pair("a", 1), *members])
        return curate([str(tmp_path / "in")], str(tmp_path / "out"), load_config(overrides=SETTINGS))

    result = run(("b.txt", b"a text alone"), ("c.mp4", b"no video at all"))
    assert (result.num_inputs, result.num_failed_inputs) == (3, 2)
    assert status(str(tmp_path / "out")).inputs == {"ok": 1, "missing": 1, "not_media": 1}
    retried = retry(str(tmp_path / "out"), execute=load_config(overrides=SETTINGS).execute)
    assert retried.curated is not None
    assert retried.curated.num_failed_inputs == 2
    result = run(("b.jpg", jpg(2)), ("b.txt", b"a text alone"), ("c.mp4", mp4(3)))
    assert (result.num_inputs, result.num_failed_inputs) == (3, 0)


def test_a_member_of_a_tar_that_was_written_again_is_not_read_by_its_old_place(tmp_path: Path) -> None:
    config = StagingConfig(cache_dir=str(tmp_path / "cache"))
    (before,) = listed(write_members(tmp_path / "0.tar", [("a.jpg", jpg(1))])).sources
    write_members(tmp_path / "0.tar", [("longer.jpg", jpg(2)), ("a.jpg", jpg(3))])
    with (
        pytest.raises(Exception, match="changed since it was listed"),
        local_copy(before.uri, config, version=before.version),
    ):
        pass
    with local_copy(before.uri, config) as path:
        assert Path(path).read_bytes() == jpg(3)


def test_listing_reads_no_payload_of_media(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tar = write_members(tmp_path / "0.tar", [(f"{n}.mp4", bytes(2**20)) for n in range(8)])
    read: list[int] = []
    import builtins

    real = builtins.open

    class Counted(io.FileIO):
        def readinto(self, buffer) -> int:
            count = super().readinto(buffer) or 0
            read.append(count)
            return count

    def opened(path, mode="r", *rest, **named):
        is_tar = str(path) == str(tar)
        return io.BufferedReader(Counted(path)) if is_tar else real(path, mode, *rest, **named)

    monkeypatch.setattr(builtins, "open", opened)
    assert len(listed(tar).sources) == 8
    assert 0 < sum(read) < 2**20


def test_members_that_no_sample_can_hold_cost_no_other_one(tmp_path: Path) -> None:
    deep = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    members = [*pair("0", 1), ("1.jpg", jpg(2)), ("1.json", deep), ("2.__key__", b"x"), ("2.jpg", jpg(3))]
    left_out: list[str] = []
    listing = listed(write_members(tmp_path / "0.tar", members), left_out=left_out)
    assert names(listing) == ["0.jpg", "1.jpg", "2.jpg"]
    assert {name: kind for name, (kind, _) in told(listing).items()} == {"1.json": FailureKind.CORRUPT}
    assert [name.rpartition("/")[2] for name in left_out] == ["2.__key__"]
