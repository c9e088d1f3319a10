"""Killed runs resume and see what they would have seen. benchmarks/train_kill.py kills more often."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.killed_runs import Runs, on_ray, other_workers, random_steps, same_workers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]  # what hangs is ended by its progress, not by the clock


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    # Not pytest's folder, whose name is long: the paths of Ray's sockets must fit in 107 bytes.
    with tempfile.TemporaryDirectory(prefix="kill-", ignore_cleanup_errors=True) as folder:
        runs = Runs(folder=Path(folder), num_steps=16)
        runs.prepare()
        yield runs


@pytest.fixture(scope="module")
def on_two(runs: Runs) -> Path:
    out = runs.folder / "undisturbed-2"
    runs.finish(out, 0, 2)
    return out


@pytest.fixture(scope="module")
def killed(runs: Runs) -> Path:
    """A run of two workers, one of which was killed in its first half."""
    out, rng = runs.folder / "killed", np.random.default_rng(0)
    print(runs.kill_at(out, 0, 2, random_steps(runs, 2, rng)[0], rng))
    return out


def test_a_killed_worker_of_two_leaves_a_run_that_goes_on_bitwise(runs: Runs, on_two: Path, killed: Path) -> None:
    assert same_workers(runs, on_two, 2, 1, np.random.default_rng(0), begun=killed) == []


def test_a_killed_run_sees_the_same_on_other_numbers_of_workers(runs: Runs, on_two: Path, killed: Path) -> None:
    assert other_workers(runs, on_two, (2, 1, 3), np.random.default_rng(1), begun=killed) == []


@pytest.mark.ray
def test_ray_train_replaces_a_killed_worker_and_the_run_goes_on_bitwise(runs: Runs, on_two: Path) -> None:
    assert on_ray(runs, on_two, 1, np.random.default_rng(2)) == []
