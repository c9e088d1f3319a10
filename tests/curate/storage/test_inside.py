"""URIs of what is inside a file: read back as they were made, and no names of files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.storage.access import public
from curate.storage.inside import container_uri, file_uri, member_uri, split_member, split_stretch, stretch_uri
from curate.storage.place import locate
from pipelines.inputs.sources import Source, source_of

CONTAINERS = [
    "/data/0.tar",
    "/a b/x.TAR",
    "s3://bucket/deep/0.tar",
    "https://host/0.tar?v=1&X-Amz-Signature=s//k",
    "/d/0.parquet",
]


@given(st.sampled_from(CONTAINERS), st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_members_and_stretches_are_read_back_whatever_they_are_called(container: str, name: str) -> None:
    uri = member_uri(container, name)
    assert split_member(uri) == (container, name)
    assert split_stretch(uri) is None
    stretch = stretch_uri(uri, ("t", "1.5", "00:00:02.000"))
    assert split_stretch(stretch) == (uri, ("t", "1.5", "00:00:02.000"))
    assert (file_uri(stretch), container_uri(stretch), container_uri(uri)) == (uri, container, container)


@pytest.mark.parametrize(
    "name", ["a.mp4", "deep/a.mp4", "what?.jpg", "a#1.jpg", "../../etc/passwd", "/root.jpg", "a//b"]
)
def test_a_name_stays_one_of_its_own_when_paths_are_normalized(name: str) -> None:
    uri = member_uri("/data/0.tar", name)
    inside = uri.removeprefix("/data/0.tar//")
    assert not {"", ".", ".."} & set(inside.split("/"))
    assert not set("?#,") & set(inside)


def test_a_signature_is_taken_off_the_file_and_not_off_the_member() -> None:
    signed = member_uri("https://host/0.tar?version=3&X-Amz-Signature=secret", "a?token=1.jpg")
    assert public(signed) == "https://host/0.tar?version=3//a%3Ftoken=1.jpg"
    assert split_member(public(signed)) == ("https://host/0.tar?version=3", "a?token=1.jpg")


@pytest.mark.parametrize(
    "uri", ["/data/0.tar", "/data/a.mp4", "s3://bucket/a.mp4", "s3://0.tar", "file.tar", "https://h/a.mp4"]
)
def test_files_are_no_members(uri: str) -> None:
    assert split_member(uri) is None
    assert container_uri(uri) == uri


def test_no_file_is_taken_for_a_member(tmp_path: Path) -> None:
    (tmp_path / "0.tar").mkdir()
    (tmp_path / "0.tar/a.mp4").write_bytes(b"1")
    found = source_of(*locate(f"{tmp_path}/0.tar//a.mp4"))
    assert isinstance(found, Source)
    assert found.uri == f"{tmp_path}/0.tar/a.mp4"
    assert split_member(found.uri) is None
