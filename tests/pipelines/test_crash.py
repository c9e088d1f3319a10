"""A run of `curate` that is killed anywhere, and run again, leaves what an undisturbed run leaves."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from curate.dataset.dataset import Dataset
from pipelines.config import load_config
from pipelines.drivers.curate import curate
from tests.support.commit_points import TROUBLES, Points, Trouble
from tests.support.corpus import shot, write
from tests.support.forks import forks
from tests.support.processes import IS_KIND, command_line, descendants, kill
from tests.support.snapshot import Snapshot, differences, snapshot

SETTINGS = [
    "scan.detector.kind=adaptive",
    "score.scorers=null",
    "shards.clips_per_shard=1",
    "execute.publish_every_s=1e-9",
]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shots, an exact copy, a worse copy, one that is rejected, and one that is no video."""
    folder = tmp_path_factory.mktemp("crash")
    shots = np.concatenate([shot(1, 1.2), shot(2, 1.2)])
    write(folder / "shots.mp4", shots)
    (folder / "copy.mp4").write_bytes((folder / "shots.mp4").read_bytes())
    write(folder / "worse.mp4", shots, options={"crf": "32"})
    write(folder / "short.mp4", shot(3, 0.5))
    (folder / "text.mp4").write_text("no video")
    return folder


def run(videos: Path, out: Path, executor: str = "local") -> None:
    curate([str(videos)], str(out), load_config(overrides=[*SETTINGS, f"execute.executor={executor}"]))


def run_and_die(videos: Path, out: Path, die_at: int) -> None:
    """A run whose process is killed as it is about to publish for the `die_at`-th time."""
    count = 0

    def on_event(event: str, _: object) -> None:
        nonlocal count
        if event == "os.rename":  # how everything is published
            count += 1
            if count == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(on_event)
    run(videos, out)


@pytest.fixture(scope="module")
def run_until(videos: Path) -> Callable[[Path, int], bool]:
    """`run_until(out, die_at)`: in a process of its own; whether it was killed."""

    def start(out: Path, die_at: int) -> bool:
        process = forks().Process(target=run_and_die, args=(videos, out, die_at))
        process.start()
        process.join(60)
        assert process.exitcode in (0, -signal.SIGKILL), f"ended with {process.exitcode}"
        return process.exitcode != 0

    return start


@pytest.fixture(scope="module")
def undisturbed(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    out = tmp_path_factory.mktemp("undisturbed") / "dataset"
    run(videos, out)
    return snapshot(out)


@pytest.mark.slow
def test_killed_before_any_of_its_publications_a_run_can_be_finished(
    videos: Path, tmp_path: Path, undisturbed: Snapshot, run_until: Callable[[Path, int], bool]
) -> None:
    die_at, killed = 0, True
    while killed:
        die_at += 1
        out = tmp_path / f"killed at {die_at}"
        killed = run_until(out, die_at)
        run(videos, out)
        assert differences(undisturbed, snapshot(out)) == [], f"killed at publication {die_at}"
        assert "running" not in Dataset(str(out)).sections()
    assert die_at > 15, "a run of this size publishes more often"


def test_runs_that_all_die_soon_come_to_the_same_end(
    tmp_path: Path, undisturbed: Snapshot, run_until: Callable[[Path, int], bool]
) -> None:
    num_runs = 1
    # Six publications rewrite what is derived: a run that dies before the eighth has added something.
    while run_until(tmp_path / "dataset", 8):
        num_runs += 1
        assert num_runs < 30, "no progress from run to run"
    assert num_runs > 2
    assert differences(undisturbed, snapshot(tmp_path / "dataset")) == []


@pytest.mark.ray
@pytest.mark.usefixtures("private_ray")
def test_a_killed_worker_changes_nothing(videos: Path, tmp_path: Path, undisturbed: Snapshot) -> None:
    killed: list[str] = []
    over = threading.Event()

    def kill_one() -> None:
        while not over.is_set() and not killed:
            for pid in descendants(os.getpid()):
                if IS_KIND["worker"](line := command_line(pid)):
                    kill(pid)
                    killed.append(line)
                    break
            time.sleep(0.01)

    killer = threading.Thread(target=kill_one)
    killer.start()
    try:
        run(videos, tmp_path / "dataset", "ray")
    finally:
        over.set()
        killer.join()
    assert killed
    run(videos, tmp_path / "dataset", "local")
    assert differences(undisturbed, snapshot(tmp_path / "dataset")) == []


def test_a_difference_is_found_and_named(videos: Path, tmp_path: Path, undisturbed: Snapshot) -> None:
    run(videos, tmp_path / "dataset")
    assert differences(undisturbed, snapshot(tmp_path / "dataset")) == []
    tar = min((tmp_path / "dataset" / "shards").glob("*.tar"))
    damaged = bytearray(tar.read_bytes())
    damaged[700] ^= 1
    tar.write_bytes(damaged)
    dataset = Dataset(str(tmp_path / "dataset"))
    row = dataset.clips.rows()[0]
    dataset.clips.publish([{**row, "num_frames": row["num_frames"] + 1}])
    found = "\n".join(differences(undisturbed, snapshot(tmp_path / "dataset")))
    assert f'tables/clips: differs: ["{row["clip_id"]}"' in found
    assert f"shards/{tar.name}: differs" in found
    assert "clips.parquet" not in found


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Points:
    return Points(tmp_path_factory.mktemp("points"))


@pytest.mark.slow
@pytest.mark.parametrize("command", ["curate", "select", "forget"])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_trouble_at_any_point_loses_nothing_and_is_told_in_plain_words(
    points: Points, command: str, trouble: Trouble
) -> None:
    found = dict(points.all(command, trouble, every=5 if command == "select" else 13))
    assert len(found) >= 3
    assert [wrong for wrong in found.values() if wrong] == []
