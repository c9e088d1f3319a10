"""Files that appear whole or not at all, and outlive a power cut."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from curate.shards.tar import write_tar
from curate.storage.publish import is_atomic, is_being_written, publish, remove_unfinished, write_text


def test_a_file_and_its_folder_are_synchronised_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[tuple[str, str]] = []
    replace = Path.replace

    def note(descriptor: int) -> None:
        events.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))

    def renamed(self: Path, target: Path) -> Path:
        events.append(("rename", target.name))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(Path, "replace", renamed)
    write_text(f"{tmp_path}/folder/name", "text")
    (first, temporary), *rest = events
    assert first == "sync" and temporary.startswith(".name.") and temporary.endswith(".tmp")
    assert rest == [("rename", "name"), ("sync", "folder")]


def test_a_filesystem_may_synchronise_no_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", sync)
    write_text(f"{tmp_path}/name", "text")
    assert (tmp_path / "name").read_text() == "text"


def test_what_is_no_known_store_gets_a_temporary_name_and_a_move(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = fsspec.filesystem("memory")
    assert is_atomic(memory) and not is_atomic(fsspec.filesystem("http")) and not is_atomic(LocalFileSystem())
    monkeypatch.setattr("curate.storage.publish.ATOMIC_PUT", frozenset())
    with publish("memory://plain/name") as file:
        file.write(b"half")
        file.close()  # as on a file server, it is there as far as it is written
        assert not memory.exists("/plain/name")
    assert memory.cat_file("/plain/name") == b"half"
    with pytest.raises(RuntimeError), publish("memory://plain/name") as file:
        file.write(b"another")
        raise RuntimeError
    assert memory.cat_file("/plain/name") == b"half"
    assert [Path(name).name for name in memory.ls("/plain", detail=False)] == ["name"]


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    write_text(f"{tmp_path}/name", "before")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if call != "write":
        monkeypatch.setattr(os if call == "fsync" else Path, call, full)
    told = f"No space left.*free space there: the same command resumes: .{tmp_path}/name"
    with pytest.raises(OSError, match=told), publish(f"{tmp_path}/name") as file:
        file.write(b"after")
        if call == "write":
            full()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"name": "before"}


def test_a_temporary_file_of_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".shard.tar.0123.tmp").write_bytes(b"left by a killed one")

    def samples() -> Iterator[tuple[str, dict[str, bytes]]]:
        for number in range(3):
            remove_unfinished(str(tmp_path), {"shard.tar"})
            [mine] = tmp_path.iterdir()
            assert is_being_written(mine)
            yield f"clip{number}", {"mp4": b"x"}

    assert len(write_tar(f"{tmp_path}/shard.tar", samples())) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["shard.tar"]
