"""What is a URL, and what is the name of a file."""

import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.utils import infer_storage_options

from curate.storage.place import is_url, locate, url_of
from curate.storage.publish import publish

NAMES = [
    "Show :: Part 1.mp4", "a::b.mp4", "a.mp4::b.mp4", "simplecache.mp4", "s3:", "file:", "#1.mp4", "50%20.mp4",
    "{}.mp4", "~", "~root", "-x.mp4", "back\\slash", "new\nline", "bang!", "spaces  ", "[1]",
    "*", "?", "s3::x", "é.mp4",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_a_file_is_never_parsed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).write_text("by its path")
    monkeypatch.chdir(tmp_path)
    for text in (str(tmp_path / name), name, f"./{name}"):
        fs, path = locate(text)
        assert path == str(tmp_path / name)
        assert fs.cat_file(path) == b"by its path"
        assert not is_url(text)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_published_under_a_name_is_there(name: str, tmp_path: Path) -> None:
    with publish(f"{tmp_path}/{name}/{name}") as file:
        file.write(b"published")
    assert [path.read_bytes() for path in (tmp_path / name).iterdir()] == [b"published"]
    assert (tmp_path / name / name).is_file()


def test_urls_are_those_of_known_protocols(tmp_path: Path) -> None:
    assert locate("s3://bucket/a::b#?.mp4")[1] == "bucket/a::b#?.mp4"
    assert locate(f"file://{tmp_path}/a") == locate(f"{tmp_path}/a")
    assert locate("unknown://a")[1] == f"{Path.cwd()}/unknown:/a"
    assert is_url("s3://bucket/a") and is_url("https://host/a?b=c") and not is_url("file:///a")
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.writestr("inner.txt", "inside")
    fs, path = locate(f"zip://inner.txt::file://{tmp_path}/outer.zip")
    assert fs.cat_file(path) == b"inside"


class Server(MemoryFileSystem):
    """Keeps host and user in the filesystem, as those of FTP and SFTP do."""

    protocol = "ftp"
    cachable = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(infer_storage_options(path)["path"]).rstrip("/")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        return {name: value for name, value in infer_storage_options(path).items() if name not in ("path", "protocol")}


@pytest.mark.parametrize("login", ["", "ada@", "ada:p%40ss@"])
def test_a_url_keeps_host_and_user_where_paths_lack_them(login: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "ftp", Server)
    url = f"ftp://{login}box:2121/films/a b.mp4"
    fs, path = locate(url)
    assert path == "/films/a b.mp4"
    assert url_of(fs, path) == url
    assert url_of(*locate("s3://bucket/a.mp4")) == "s3://bucket/a.mp4"
    assert url_of(*locate("/films/a.mp4")) == "/films/a.mp4"
