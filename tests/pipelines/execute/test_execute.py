import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from curate.cut import CutStage, PiecePlan, ShardConfig
from curate.scan import Identified, IdentifyStage, ScanConfig, SourceFile
from curate.schema import RETRYABLE, Failure, FailureKind
from pipelines.execute.base import ExecuteConfig, Executor, Resources
from pipelines.execute.build import open_executor
from pipelines.execute.local import LocalExecutor
from tests.support.stages import Doubling, Reading


@pytest.fixture
def files(tmp_path: Path) -> list[SourceFile]:
    """Twenty files, and every fourth is gone."""
    sources = []
    for number in range(20):
        path = tmp_path / f"{number:02d}"
        if number % 4:
            path.write_bytes(bytes([number]))
        sources.append(SourceFile(uri=path.name, path=str(path), size_bytes=1))
    return sources


def identified(executor: Executor, files: list[SourceFile]) -> list[tuple[SourceFile, Identified | Failure]]:
    return sorted(
        executor.run(IdentifyStage(ScanConfig()), files, Resources(batch_size=3)), key=lambda pair: pair[0].uri
    )


def on_ray(stage: Any, items: Sequence[Any], batch_size: int = 4, **config: Any) -> list[tuple[Any, Any]]:
    with open_executor(ExecuteConfig(executor="ray", num_workers=2, **config)) as executor:
        return list(executor.run(stage, items, Resources(batch_size=batch_size)))


def here(stage: Any, items: Sequence[Any], batch_size: int = 4) -> list[tuple[Any, Any]]:
    return list(LocalExecutor().run(stage, items, Resources(batch_size=batch_size)))


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.ray)])
def run(request: pytest.FixtureRequest) -> Callable[..., list[tuple[Any, Any]]]:
    if request.param == "local":
        return here
    request.getfixturevalue("private_ray")
    return on_ray


def failures(results: list[tuple[Any, Any]], num_items: int) -> dict[int, Failure]:
    """Failures by item, after a check that each of the items ended once, and all others well."""
    assert sorted(item for item, _ in results) == list(range(num_items))
    failed = {item: outcome for item, outcome in results if isinstance(outcome, Failure)}
    assert all(outcome == 2 * item for item, outcome in results if item not in failed)
    assert all(failure.subject == str(item) and failure.step == "double" for item, failure in failed.items())
    return failed


def test_every_item_has_its_own_outcome(files: list[SourceFile]) -> None:
    got = identified(LocalExecutor(), files)
    assert [item for item, _ in got] == files
    failed = [item.uri for item, outcome in got if isinstance(outcome, Failure)]
    assert failed == [file.uri for file in files[::4]]
    assert len({outcome.video_id for _, outcome in got if isinstance(outcome, Identified)}) == 15
    assert {outcome.kind for _, outcome in got if isinstance(outcome, Failure)} == {FailureKind.MISSING}


def test_no_items_have_no_outcomes() -> None:
    assert identified(LocalExecutor(), []) == []


@pytest.mark.ray
@pytest.mark.usefixtures("private_ray")
def test_ray_gives_the_same_outcomes_as_this_process(files: list[SourceFile]) -> None:
    with open_executor(ExecuteConfig(executor="ray")) as executor:
        assert not isinstance(executor, LocalExecutor)
        assert identified(executor, files) == identified(LocalExecutor(), files)


def test_an_error_over_one_item_is_its_failure_and_one_over_a_batch_nobodys(run: Callable) -> None:
    failed = failures(run(Doubling({7: "raise", 13: "raise in company"}), range(20)), 20)
    assert {item: failure.kind for item, failure in failed.items()} == {7: FailureKind.MODEL}
    assert "it cannot be doubled" in failed[7].detail


def test_weights_that_are_missing_stop_the_run_with_their_own_error() -> None:
    with pytest.raises(ValueError, match="weights are not there"):
        here(Doubling(in_setup="no weights"), range(20))


def test_a_device_in_disorder_ends_a_run_in_this_process() -> None:
    with pytest.raises(RuntimeError, match="illegal memory access"):
        here(Doubling({7: "lose device"}), range(20))


@pytest.mark.ray
@pytest.mark.usefixtures("private_ray")
def test_an_output_that_cannot_be_written_stops_the_run_with_its_own_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    plan = PiecePlan(url=str(tmp_path / "file" / "piece"), clips=())
    with open_executor(ExecuteConfig(executor="ray")) as executor, pytest.raises(OSError, match="file"):
        list(executor.run(CutStage(ShardConfig()), [plan], Resources()))


@pytest.mark.ray
@pytest.mark.usefixtures("private_ray")
def test_items_that_kill_their_workers_fail_alone() -> None:
    trouble = {7: "segfault", 22: "exit"}
    failed = failures(on_ray(Doubling(trouble), range(40), max_attempts=2), 40)
    assert failed.keys() == trouble.keys()
    assert {failure.kind for failure in failed.values()} == {FailureKind.WORKER_DIED}
    assert {failure.attempts for failure in failed.values()} == {2}
    assert FailureKind.WORKER_DIED not in RETRYABLE, "a rerun would meet them all again"


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("private_ray")
def test_a_device_in_disorder_costs_a_worker_of_ray_its_life() -> None:
    failed = failures(on_ray(Doubling({7: "lose device"}), range(12), max_attempts=1), 12)
    assert {item: failure.kind for item, failure in failed.items()} == {7: FailureKind.WORKER_DIED}


@pytest.mark.ray
@pytest.mark.usefixtures("private_ray")
def test_an_item_that_hangs_in_native_code_fails_alone_and_may_be_tried_again() -> None:
    failed = failures(on_ray(Doubling({7: "hang"}), range(12), item_limit_s=0.5), 12)
    assert {item: failure.kind for item, failure in failed.items()} == {7: FailureKind.TIMEOUT}
    assert failed[7].retryable


@pytest.mark.ray
@pytest.mark.usefixtures("private_ray")
def test_outcomes_come_before_their_chunk_ends_and_are_kept_when_its_worker_dies() -> None:
    slow = dict.fromkeys(range(6), "slow")  # ten items are a chunk: its worker reports after two seconds, then dies
    with open_executor(ExecuteConfig(executor="ray", num_workers=2, max_attempts=1)) as executor:
        results = []
        came_s = []
        for result in executor.run(Doubling(slow | {8: "exit"}), range(40), Resources(batch_size=1)):
            results.append(result)
            came_s.append(time.monotonic())
    assert failures(results, 40).keys() == {8}
    assert came_s[-1] - came_s[0] > 1


@pytest.mark.ray
@pytest.mark.usefixtures("private_ray")
def test_workers_that_cannot_be_set_up_stop_the_run() -> None:
    with pytest.raises(RuntimeError, match="died during set-up"):
        on_ray(Doubling(in_setup="exit"), range(4), max_attempts=1)


@pytest.mark.ray
@pytest.mark.usefixtures("private_ray")
def test_what_dies_with_its_machine_is_not_blamed() -> None:
    import ray

    from pipelines.execute.ray_worker import Ledger

    node = ray.get_runtime_context().get_node_id()
    ledger = Ledger()
    deaths = [ledger.begin("chunk", where)[0] for where in ("machine that is gone", node, node, node)]
    assert deaths == [0, 0, 1, 2]
    ledger.end("chunk")
    assert ledger.begin("chunk", node)[0] == 0


@pytest.mark.ray
@pytest.mark.usefixtures("private_ray")
def test_prometheus_sees_the_outcomes_of_each_step() -> None:
    import ray

    stage = Doubling({3: "raise"})
    stage.step = "double and count"
    on_ray(stage, range(20), batch_size=2)
    [node] = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    expected = {("total", "ok"): 19, ("total", "model"): 1, ("left", None): 0}
    deadline = time.monotonic() + 30
    while (seen := _metrics(url, stage.step)) != expected and time.monotonic() < deadline:
        time.sleep(0.1)
    assert seen == expected


@pytest.mark.ray
@pytest.mark.usefixtures("private_ray")
def test_prometheus_sees_what_workers_read() -> None:
    import ray

    stage = Reading(time.time)
    stage.step = "read and count"
    on_ray(stage, [30] * 7, batch_size=2)
    [node] = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    deadline = time.monotonic() + 30
    while (seen := _read_bytes(url, stage.step)) != 210 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert seen == 210


def _read_bytes(url: str, step: str) -> float:
    """Of all workers together."""
    with urllib.request.urlopen(url, timeout=10) as page:
        lines = page.read().decode().splitlines()
    start, label = "ray_reelpack_read_bytes_total{", f'step="{step}"'
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start) and label in line)


def _metrics(url: str, step: str) -> dict[tuple[str, str | None], float]:
    with urllib.request.urlopen(url, timeout=10) as page:
        lines = page.read().decode().splitlines()
    found = {}
    for line in lines:
        name, _, rest = line.partition("{")
        if name.startswith("ray_reelpack_items_") and f'step="{step}"' in rest:
            outcome = rest.partition('outcome="')[2].partition('"')[0] or None
            found[name.rpartition("_")[2], outcome] = float(rest.rpartition(" ")[2])
    return found


@pytest.mark.parametrize(("num_items", "batch_size"), [(0, 1), (1, 4), (7, 4), (40, 4), (100_000, 1)])
@pytest.mark.parametrize("num_workers", [1, 2, 64])
def test_chunks_are_whole_batches_few_and_small_at_the_end(num_items: int, batch_size: int, num_workers: int) -> None:
    from pipelines.execute.ray_data import MAX_CHUNK, guided_chunks

    sizes = guided_chunks(num_items, batch_size, num_workers)
    assert sum(sizes) == num_items
    assert all(size % batch_size == 0 for size in sizes[:-1])
    assert sizes == sorted(sizes, reverse=True)
    assert all(0 < size <= MAX_CHUNK * batch_size for size in sizes)
    if num_items > batch_size * num_workers:
        assert max(sizes[-num_workers:]) <= batch_size, "all workers end together"
    assert len(sizes) < num_items / batch_size / MAX_CHUNK + 2 * num_workers * 8 + 1
