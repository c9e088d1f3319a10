import io
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec import AbstractFileSystem

from curate.media import fetch, staging
from curate.media.fetch import Staged, local_copy
from curate.media.staging import COPY_NAME, MARKER, StagingConfig
from curate.schema import Failure, FailureKind, MediaError
from pipelines.inputs.sources import version_now


class Remote(AbstractFileSystem):
    """Files in a dictionary, some of which give trouble; counts what is read."""

    protocol = "trouble"
    files: ClassVar[dict[str, bytes]] = {}
    num_opened = 0

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        if path == "forbidden":
            raise PermissionError("Access Denied")
        if path not in self.files:
            raise FileNotFoundError(path)
        size = len(self.files[path])
        return {"name": path, "type": "file", "size": size + (path == "cut off"), "ETag": hash(self.files[path])}

    def _open(self, path: str, *args: Any, **kwargs: Any) -> io.BytesIO:
        if path == "unreachable":
            raise _LibraryError("no route to host")
        type(self).num_opened += 1
        return io.BytesIO(self.files[path])


class _LibraryError(Exception):
    """As those of botocore: no OSError."""


@pytest.fixture
def remote() -> Iterator[type[Remote]]:
    fsspec.register_implementation("trouble", Remote, clobber=True)
    Remote.files.clear()
    Remote.num_opened = 0
    yield Remote


def put(name: str, data: bytes) -> str:
    Remote.files[name] = data
    return f"trouble://{name}"


def config(folder: Path, cache_bytes: int = 10**6) -> StagingConfig:
    return StagingConfig(cache_dir=str(folder / "staged"), cache_bytes=cache_bytes)


def copies(folder: Path) -> list[bytes]:
    own = config(folder).folder
    return sorted(path.read_bytes() for path in own.iterdir() if COPY_NAME.fullmatch(path.name))


def test_a_local_file_is_its_own_copy(tmp_path: Path) -> None:
    with local_copy(str(tmp_path / "a.mp4"), config(tmp_path)) as path:
        assert path == str(tmp_path / "a.mp4")
    assert not (tmp_path / "staged").exists()


def test_a_remote_file_is_fetched_once_until_it_changes(tmp_path: Path, remote: type[Remote]) -> None:
    uri = put("a.mp4", b"first")
    for _ in range(2):
        with local_copy(uri, config(tmp_path)) as path:
            assert Path(path).read_bytes() == b"first"
            assert path.endswith(".mp4")
    assert remote.num_opened == 1
    put("a.mp4", b"other")
    with local_copy(uri, config(tmp_path)) as path:
        assert Path(path).read_bytes() == b"other"


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path, remote: type[Remote]) -> None:
    uris = [put(str(number), bytes([number]) * 100) for number in range(4)]
    for number in (0, 1, 0, 2, 3):
        with local_copy(uris[number], config(tmp_path, 250)):
            assert sum(map(len, copies(tmp_path))) <= 250
    assert copies(tmp_path) == [b"\2" * 100, b"\3" * 100]
    with local_copy(uris[2], config(tmp_path, 250)), local_copy(uris[0], config(tmp_path, 250)):
        assert copies(tmp_path) == [b"\0" * 100, b"\2" * 100]


def test_what_is_in_use_stays_and_what_is_too_much_goes_after_it(tmp_path: Path, remote: type[Remote]) -> None:
    with ExitStack() as held:
        uris = [put(str(number), bytes([number]) * 100) for number in range(3)]
        paths = [held.enter_context(local_copy(uri, config(tmp_path, 150))) for uri in uris]
        assert [Path(path).read_bytes() for path in paths] == [bytes([n]) * 100 for n in range(3)]
    assert sum(map(len, copies(tmp_path))) <= 150


@pytest.mark.parametrize(("cache_bytes", "num_opened"), [(10_000, 3), (100, None)])
def test_workers_share_copies(tmp_path: Path, remote: type[Remote], cache_bytes: int, num_opened: int | None) -> None:
    uris = [put(str(number), bytes([number]) * 100) for number in range(3)]
    wrong = []

    def work(first: int) -> None:
        for turn in range(30):
            number = (first + turn) % 3
            with local_copy(uris[number], config(tmp_path, cache_bytes)) as path:
                if Path(path).read_bytes() != bytes([number]) * 100:
                    wrong.append(path)

    # A lock belongs to an open file, not to a process: threads contend for it as processes do.
    threads = [threading.Thread(target=work, args=(first,)) for first in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert num_opened is None or remote.num_opened == num_opened
    # All of them may have been in use at once; the next copy makes room.
    with local_copy(put("last", b"x" * 100), config(tmp_path, cache_bytes)):
        pass
    assert sum(map(len, copies(tmp_path))) <= cache_bytes


def test_what_a_killed_process_left_is_no_copy(tmp_path: Path, remote: type[Remote]) -> None:
    uri = put("a", b"whole")
    with local_copy(uri, config(tmp_path)) as path:
        name = Path(path)
    os.rename(name, f"{name}.part")
    Path(f"{name}.part").write_bytes(b"half of something longer")
    with local_copy(put("b", b"x" * 100), config(tmp_path)) as path:
        other = Path(path)
    os.rename(other, f"{other}.part")
    with local_copy(uri, config(tmp_path)) as path:
        assert Path(path).read_bytes() == b"whole"
    with local_copy(uri, config(tmp_path, 50)):
        pass
    assert copies(tmp_path) == [b"whole"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("gone", FailureKind.MISSING),
        ("forbidden", FailureKind.PERMISSION),
        ("unreachable", FailureKind.IO),
        ("cut off", FailureKind.IO),
    ],
)
def test_what_cannot_be_fetched_says_why(tmp_path: Path, remote: type[Remote], name: str, kind: FailureKind) -> None:
    if name != "gone":
        put(name, b"data")
    with pytest.raises(MediaError) as error, local_copy(f"trouble://{name}", config(tmp_path)):
        pass
    assert error.value.kind is kind
    assert name in error.value.detail
    assert not config(tmp_path).folder.exists() or not copies(tmp_path)


def test_a_cache_that_cannot_be_written_is_not_the_files_fault(tmp_path: Path, remote: type[Remote]) -> None:
    (tmp_path / "staged").touch()
    with pytest.raises(OSError, match="staged"), local_copy(put("a", b"data"), config(tmp_path)):
        pass


@dataclass(frozen=True)
class Item:
    name: str
    path: str
    version: str | None = None


class Reading:
    step = "read"

    def setup(self) -> None: ...

    def process(self, items: Sequence[Item]) -> list[bytes]:
        return [Path(item.path).read_bytes() for item in items]

    def give_up(self, item: Item, kind: FailureKind, detail: str, attempts: int) -> Failure:
        return Failure(subject=item.name, step=self.step, kind=kind, detail=detail, attempts=attempts)


def test_a_staged_stage_works_on_copies_and_names_failures_itself(tmp_path: Path, remote: type[Remote]) -> None:
    stage = Staged(Reading(), config(tmp_path))
    names = ["a", "gone", "b"]
    for name in ("a", "b"):
        put(name, name.encode())
    first, missing, last = stage.process([Item(f"item {name}", f"trouble://{name}") for name in names])
    assert (first, last) == (b"a", b"b")
    assert isinstance(missing, Failure)
    assert (missing.subject, missing.step, missing.kind) == ("item gone", "read", FailureKind.MISSING)


def test_eviction_touches_what_reelpack_made_only(tmp_path: Path, remote: type[Remote]) -> None:
    folder = tmp_path / "staged"
    folder.mkdir()
    beside = folder / "family.mp4"
    beside.write_bytes(b"x" * 5000)
    uris = [put(str(number), bytes([number]) * 100) for number in range(3)]
    with local_copy(uris[0], config(tmp_path, 150)) as path:
        own = Path(path).parent
    assert own.parent == folder
    kept = [own / "notes.txt", own / ("f" * 32 + ".mp4")]
    kept[0].write_bytes(b"y" * 5000)
    kept[1].symlink_to(beside)
    for uri in uris * 2:
        with local_copy(uri, config(tmp_path, 150)):
            pass
    assert len(copies(tmp_path)) == 2, "one copy, and the link"
    assert beside.read_bytes() == b"x" * 5000 and all(path.exists() for path in kept)


def test_a_folder_that_reelpack_did_not_make_is_refused(tmp_path: Path, remote: type[Remote]) -> None:
    own = config(tmp_path).folder
    own.mkdir(parents=True, mode=0o700)
    (own / ("0" * 32)).write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="cache_dir"), local_copy(put("a", b"data"), config(tmp_path)):
        pass
    assert [path.name for path in own.iterdir()] == ["0" * 32]


@pytest.mark.parametrize("trouble", ["others may write", "a link", "another user"])
def test_a_folder_that_others_can_change_is_refused(
    tmp_path: Path, remote: type[Remote], monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    own = config(tmp_path).folder
    own.parent.mkdir()
    if trouble == "a link":
        (tmp_path / "elsewhere").mkdir()
        own.symlink_to(tmp_path / "elsewhere")
    else:
        own.mkdir()
        (own / MARKER).touch()
        own.chmod(0o777 if trouble == "others may write" else 0o700)
    settings = config(tmp_path)
    if trouble == "another user":
        uid = os.geteuid()
        monkeypatch.setattr(StagingConfig, "folder", property(lambda self: own))
        monkeypatch.setattr(staging.os, "geteuid", lambda: uid + 1)
    with pytest.raises(PermissionError, match="cache_dir"), local_copy(put("a", b"data"), settings):
        pass


def test_a_copy_that_is_removed_before_it_is_locked_is_fetched_again(
    tmp_path: Path, remote: type[Remote], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = put("a", b"data")
    with local_copy(uri, config(tmp_path)) as path:
        name = path
    flock, removed = staging.fcntl.flock, []

    def removing(descriptor: int, how: int) -> None:
        if how == fetch.fcntl.LOCK_SH and not removed:  # another process makes room between opening and locking
            removed.append(name)
            os.unlink(name)
        flock(descriptor, how)

    monkeypatch.setattr(staging.fcntl, "flock", removing)
    with local_copy(uri, config(tmp_path)) as path:
        assert Path(path).read_bytes() == b"data"
    assert removed and remote.num_opened == 2


def test_other_bytes_than_were_listed_are_told(tmp_path: Path, remote: type[Remote]) -> None:
    uri = put("a", b"first")
    version = version_now(uri)
    with local_copy(uri, config(tmp_path), version=version):
        pass
    put("a", b"other")
    with pytest.raises(MediaError) as error, local_copy(uri, config(tmp_path), version=version):
        pass
    assert error.value.kind is FailureKind.CHANGED


def test_a_file_that_changes_while_it_is_fetched_is_no_copy(
    tmp_path: Path, remote: type[Remote], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = put("a", b"first")
    fetched = remote._open

    def overwritten(self: Remote, path: str, *args: Any, **kwargs: Any) -> io.BytesIO:
        data = fetched(self, path)
        put("a", b"other")
        return data

    monkeypatch.setattr(remote, "_open", overwritten)
    with pytest.raises(MediaError) as error, local_copy(uri, config(tmp_path)):
        pass
    assert error.value.kind is FailureKind.CHANGED and not copies(tmp_path)


@pytest.mark.parametrize("change", ["append", "replace", "touch", "remove"])
def test_a_local_file_that_changes_is_a_failure_of_its_kind(tmp_path: Path, change: str) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"first")
    (tmp_path / "same").write_bytes(b"other")
    stat = path.stat()
    os.utime(tmp_path / "same", ns=(stat.st_atime_ns, stat.st_mtime_ns))

    class Changing(Reading):
        def process(self, items: Sequence[Item]) -> list[bytes]:
            data = super().process(items)
            if change == "append":
                with path.open("ab") as file:
                    file.write(b"more")
            elif change == "replace":
                os.replace(tmp_path / "same", path)
            elif change == "touch":
                os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
            else:
                path.unlink()
            return data

    other = tmp_path / "b.mp4"
    other.write_bytes(b"b")
    version = version_now(str(path))
    failed, whole = Staged(Changing()).process(
        [Item("a", str(path), version), Item("b", str(other), version_now(str(other)))]
    )
    assert isinstance(failed, Failure) and failed.kind is FailureKind.CHANGED and failed.retryable
    assert whole == b"b"
    if change in ("append", "touch"):
        [late] = Staged(Reading()).process([Item("a", str(path), version)])
        assert isinstance(late, Failure) and late.kind is FailureKind.CHANGED
