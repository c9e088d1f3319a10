"""One writer at a time: who has a lease, and when it ends."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import fsspec
import pytest

from curate.storage import lease
from curate.storage.lease import LeaseLost, Occupied, hold, owners
from curate.storage.owner import here

HOLDER = """import sys
from curate.storage.lease import hold
with hold(sys.argv[1], 'curate'):
    print('held', flush=True)
"""


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield str(tmp_path / "dataset") if request.param == "local" else "memory://dataset"
    fsspec.filesystem("memory").store.clear()


def leave(folder: Path, **values: Any) -> Path:
    """A lease file as an owner leaves it who wrote it and did no more."""
    path = folder / lease.FOLDER / f"curate-{0:032x}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(asdict(replace(here("curate"), **values))))
    return path


def test_a_second_writer_is_refused_with_the_name_of_the_first(folder: str) -> None:
    with hold(folder, "curate"):
        said = rf"{folder} is being written by .*pid {os.getpid()} of .* on .*, since 20"
        with pytest.raises(Occupied, match=said), hold(folder, "curate"):
            pass
        with hold(folder, "captions"):
            assert [owner.name for owner in owners(folder)] == ["captions", "curate"]
    assert owners(folder) == []
    with hold(folder, "curate"):
        pass


def test_of_many_who_begin_at_once_one_has_it(folder: str) -> None:
    inside, most, had = [0], [0], [0]
    lock = threading.Lock()

    def claim() -> None:
        with hold(folder, "commit", wait_s=60) as held:
            with lock:
                inside[0], had[0] = inside[0] + 1, had[0] + 1
                most[0] = max(most[0], inside[0])
            held.check()
            with lock:
                inside[0] -= 1

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, had) == ([1], [4])


def test_the_lease_of_a_killed_process_has_ended(tmp_path: Path) -> None:
    held = subprocess.Popen(
        [sys.executable, "-c", HOLDER + "    sys.stdin.read()", tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert held.stdout and held.stdout.readline() == b"held\n"
    with pytest.raises(Occupied, match=f"pid {held.pid}"), hold(tmp_path, "curate"):
        pass
    os.kill(held.pid, signal.SIGKILL)
    os.waitid(os.P_PID, held.pid, os.WEXITED | os.WNOWAIT)  # its exit code is not fetched: it is still listed
    with hold(tmp_path, "curate"):
        pass
    assert list(tmp_path.iterdir()) == []
    held.communicate()


def test_a_pid_that_is_used_again_is_another_process(tmp_path: Path) -> None:
    leave(tmp_path, process="1")
    with hold(tmp_path, "curate"):
        pass


def test_an_owner_elsewhere_is_believed_until_it_shows_no_sign_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = leave(tmp_path, host="elsewhere")
    with pytest.raises(Occupied, match="on elsewhere"), hold(tmp_path, "curate"):
        pass
    os.utime(path, (0, 0))
    monkeypatch.setattr(lease.time, "sleep", lambda _: os.utime(path, (1, 1)))  # renewed, by a clock that is slow
    with pytest.raises(Occupied, match="on elsewhere"), hold(tmp_path, "curate"):
        pass
    monkeypatch.setattr(lease.time, "sleep", lambda _: None)
    with hold(tmp_path, "curate"):
        assert not path.exists()


def test_a_file_that_was_never_written_blocks_no_longer_than_others(tmp_path: Path) -> None:
    path = leave(tmp_path)
    path.write_text("")
    with pytest.raises(Occupied, match="unknown"), hold(tmp_path, "curate"):
        pass
    os.utime(path, (0, 0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lease.time, "sleep", lambda _: None)
        with hold(tmp_path, "curate"):
            pass


def test_pids_of_another_container_say_nothing(tmp_path: Path) -> None:
    leave(tmp_path, machine="another", pid=2**22 + 1)  # no process has it
    with pytest.raises(Occupied), hold(tmp_path, "curate"):
        pass


def test_it_is_renewed_and_an_owner_knows_when_it_lost_it(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_S", 0.01)
    with hold(folder, "curate") as held:
        [before] = owners(folder)
        while owners(folder)[0].beat == before.beat:
            time.sleep(0.01)
        held.check()
        fs, path = lease.locate(f"{folder}/{lease.FOLDER}/{held._file}")
        while not held._is_gone:
            with suppress(FileNotFoundError):
                fs.rm(path)  # again where it was removed in the middle of a renewal, which wrote it once more
            time.sleep(0.01)
        with pytest.raises(LeaseLost, match="the lease `curate`"):
            held.check()
    assert owners(folder) == []


def test_a_machine_that_slept_has_lost_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    with hold(tmp_path, "curate") as held:
        monkeypatch.setattr(lease.time, "time", lambda: now + 3600)
        with pytest.raises(LeaseLost):
            held.check()


def test_a_module_is_named_as_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/lib/reelpack/__main__.py", "curate", "a.mp4"])
    assert here("curate").command == "reelpack curate a.mp4"


def test_signatures_of_urls_are_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/reelpack", "curate", "https://me:key@host/a.mp4?X-Signature=secret"])
    with hold(tmp_path, "curate"):
        [owner] = owners(tmp_path)
    assert owner.command == "reelpack curate https://host/a.mp4"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file/dataset cannot be written"), hold(tmp_path / "file/dataset", "curate"):
        pass
