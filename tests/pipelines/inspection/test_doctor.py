"""What `doctor` tries, on this machine and on a worker."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.execute.base import ExecuteConfig
from pipelines.inspection.doctor import doctor, examine

ROOT = Path(__file__).parents[3]
LOCAL = ExecuteConfig(executor="local")


def test_codecs_are_tried_and_a_clip_is_cut() -> None:
    found = {finding.what: finding for finding in doctor(None, LOCAL)}
    for what in ("decode h264", "decode hevc", "decode vp9", "decode av1", "cut a clip"):
        assert found[what].verdict == "ok", found[what].detail
    assert "av " in found["versions"].detail


def test_a_folder_that_cannot_be_written_fails_with_a_remedy() -> None:
    (disk,) = [finding for finding in examine("here", "/proc/nothing") if finding.what == "disk"]
    assert disk.verdict == "fail"
    assert "choose another place" in disk.detail


def test_an_object_store_is_written_to_and_left_as_it_was() -> None:
    import fsspec

    (disk,) = [finding for finding in examine("here", "memory://bucket/out") if finding.what == "disk"]
    assert disk.verdict == "ok", disk.detail
    assert fsspec.filesystem("memory").find("/bucket") == []


def test_weights_that_are_not_there_name_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELPACK_CACHE", str(tmp_path))
    (weights,) = [finding for finding in examine("here", str(tmp_path)) if finding.what == "weights"]
    assert (weights.verdict, "reelpack weights" in weights.detail) == ("fail", True)


def test_a_cluster_that_is_not_there_is_a_finding_and_soon() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        *_, last = doctor(None, ExecuteConfig(address=address))
    assert (last.what, last.verdict) == ("Ray", "fail")
    assert address in last.detail


@pytest.mark.ray
@pytest.mark.slow
def test_a_worker_cuts_a_clip_too() -> None:
    # In a process of its own: one that has a Ray, as the other tests' may, cannot start another.
    look = (
        "from pipelines.inspection.doctor import doctor; from pipelines.execute.base import ExecuteConfig\n"
        "for f in doctor(None, ExecuteConfig(num_cpus=1)): print(f.where, f.what, f.verdict, sep=', ')"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, cwd=ROOT, timeout=240)
    assert "a worker, cut a clip, ok" in done.stdout.splitlines(), done.stdout + done.stderr
