import pickle
from pathlib import Path

import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from curate.shards.tar import TarReader, list_members, read_member, write_tar
from curate.shards.verify import verify_index

SAMPLES = [("a", {"mp4": b"x" * 1000, "json": b'{"n": 1}'}), ("b", {"mp4": b"", "json": b'{"n": 2}'})]


def rows(folder: Path) -> list[dict]:
    members = write_tar(str(folder / "train-000000.tar"), SAMPLES)
    return [
        {"clip_id": m.key, "shard": m.shard, "ext": m.ext, "offset": m.offset, "size": m.size, "digest": m.digest}
        for m in members
        if m.ext != "json"
    ]


def test_webdataset_reads_a_shard(tmp_path: Path) -> None:
    rows(tmp_path)
    dataset = webdataset.WebDataset(str(tmp_path / "train-000000.tar"), shardshuffle=False)
    assert [(s["__key__"], s["mp4"], s["json"]) for s in dataset] == [
        (key, parts["mp4"], parts["json"]) for key, parts in SAMPLES
    ]


@given(payloads=st.lists(st.binary(max_size=2000), min_size=1, max_size=6))
def test_offsets_agree_with_the_standard_library(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("tar")
    members = write_tar(str(folder / "t.tar"), ((f"k{i}", {"bin": data}) for i, data in enumerate(payloads)))
    found = list_members((folder / "t.tar").open("rb"))
    assert found == [(f"{m.key}.{m.ext}", m.offset, m.size) for m in members]
    reader = TarReader(str(folder))
    assert [reader.read(m.shard, m.offset, m.size, key=m.key, digest=m.digest) for m in members] == payloads


def test_an_archive_ends_with_two_blocks_of_zeros(tmp_path: Path) -> None:
    """Without them other programs take the file for a truncated one."""
    write_tar(str(tmp_path / "t.tar"), [("a", {"bin": b"x" * 512})])
    assert (tmp_path / "t.tar").read_bytes()[1024 - 512 :] == b"x" * 512 + b"\0" * 1024


def test_equal_samples_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("x.tar", "y.tar"):
        write_tar(str(tmp_path / name), SAMPLES)
    assert (tmp_path / "x.tar").read_bytes() == (tmp_path / "y.tar").read_bytes()


@pytest.mark.parametrize("keys", [["a", "a"], ["a.b"]])
def test_keys_that_webdataset_would_join_or_split_are_refused(tmp_path: Path, keys: list[str]) -> None:
    with pytest.raises(ValueError, match=r"unique keys|without a dot"):
        write_tar(str(tmp_path / "t.tar"), [(key, {"txt": b""}) for key in keys])
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_shard_is_an_error_that_names_it(tmp_path: Path) -> None:
    first = rows(tmp_path)[0]
    shard = tmp_path / "train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:700])
    with pytest.raises(ValueError, match=r"train-000000\.tar.*truncated"):
        read_member(TarReader(str(tmp_path)), first)


def test_an_offset_before_the_first_member_is_refused(tmp_path: Path) -> None:
    first = rows(tmp_path)[0]
    with pytest.raises(ValueError, match="offset 511 is that of no member"):
        read_member(TarReader(str(tmp_path)), {**first, "offset": 511})


def test_a_shard_that_lost_its_end_is_no_readable_tar(tmp_path: Path) -> None:
    index = rows(tmp_path)
    shard = tmp_path / "train-000000.tar"
    shard.write_bytes(shard.read_bytes()[: index[0]["offset"] + 999])
    assert verify_index(str(tmp_path), index) == ["train-000000.tar: no readable tar (unexpected end of data)"]


def test_other_bytes_than_were_written_are_refused(tmp_path: Path) -> None:
    first, second = rows(tmp_path)
    reader = TarReader(str(tmp_path))
    with pytest.raises(ValueError, match=r"expected a member of a at offset \d+, got b"):
        read_member(reader, {**second, "clip_id": "a"})
    with pytest.raises(ValueError, match="the bytes of a at offset 512 are not those that were written"):
        read_member(reader, {**first, "digest": second["digest"]})
    shard = tmp_path / "train-000000.tar"
    shard.write_bytes(shard.read_bytes().replace(b"x", b"y", 1))
    assert read_member(reader, {**first, "digest": None}) != b"x" * 1000  # of an earlier reelpack
    with pytest.raises(ValueError, match="not those that were written"):
        read_member(reader, first)


def test_a_reader_with_open_shards_can_be_pickled(tmp_path: Path) -> None:
    first = rows(tmp_path)[0]
    reader = TarReader(str(tmp_path))
    read_member(reader, first)
    again = pickle.loads(pickle.dumps(reader))
    assert read_member(again, first) == b"x" * 1000


def test_verify_finds_what_disagrees(tmp_path: Path) -> None:
    index = rows(tmp_path)
    assert verify_index(str(tmp_path), index) == []
    moved = [{**index[0], "offset": index[0]["offset"] + 512}, index[1]]
    assert "the tar has it at" in verify_index(str(tmp_path), moved)[0]
    assert "in no row of the index" in verify_index(str(tmp_path), index[:1])[0]
    assert verify_index(str(tmp_path), index[:1], unindexed={"b"}) == []
    (tmp_path / "train-000000.tar").unlink()
    assert "is not in" in verify_index(str(tmp_path), index)[0]
