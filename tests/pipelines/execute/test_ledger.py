"""Whom the ledger blames for the death of a worker."""

import pytest

from pipelines.execute import ray_worker
from pipelines.execute.ray_worker import Ledger


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Nodes of a cluster, to be changed."""
    nodes = {"one", "two"}
    known = ("one", "two")
    monkeypatch.setattr(
        ray_worker.ray, "nodes", lambda: [{"NodeID": name, "Alive": name in nodes} for name in known], raising=False
    )
    return nodes


def test_a_worker_that_died_on_a_node_that_lives_counts_and_one_that_went_with_its_node_does_not(
    alive: set[str],
) -> None:
    ledger = Ledger()
    assert ledger.begin("film", "one")[0] == 0
    assert ledger.begin("film", "two")[0] == 1
    alive.remove("one")
    assert ledger.begin("film", "two")[0] == 1  # that of "two"
    assert ledger.begin("other", "two")[0] == 0


def test_work_that_ended_leaves_no_deaths(alive: set[str]) -> None:
    ledger = Ledger()
    ledger.begin("film", "one")
    ledger.end("film")
    assert ledger.begin("film", "one") == (0, 0.0)
