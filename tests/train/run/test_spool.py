"""Growing files of a run on another filesystem: fsspec's own in memory."""

import pytest

from curate.storage.place import AnyPath, path_of
from train.run.spool import EVERY_S, Spool


@pytest.fixture
def run(request: pytest.FixtureRequest) -> AnyPath:
    return path_of(f"memory://spool/{request.node.name}")


def append(spool: Spool, name: str, text: str) -> None:
    path = spool.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(text)


def test_a_run_of_this_machine_is_its_own_spool(tmp_path) -> None:
    with Spool(tmp_path, writes=True) as spool:
        assert spool.folder == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_what_grew_is_in_the_run_after_a_sync_and_at_the_end(run: AnyPath) -> None:
    with Spool(run, writes=True) as spool:
        append(spool, "metrics.jsonl", "1\n")
        append(spool, "tensorboard/events", "a")
        append(spool, "other", "stays here")
        assert not (run / "metrics.jsonl").exists()
        spool.sync()
        assert (run / "metrics.jsonl").read_text() == "1\n"
        append(spool, "metrics.jsonl", "2\n")
    assert (run / "metrics.jsonl").read_text() == "1\n2\n"
    assert (run / "tensorboard" / "events").read_text() == "a"
    assert not (run / "other").exists() and not spool.folder.exists()


def test_a_resumed_run_continues_its_rows(run: AnyPath) -> None:
    (run / "metrics.jsonl").write_text("1\n")
    with Spool(run, writes=True) as spool:
        append(spool, "metrics.jsonl", "2\n")
    assert (run / "metrics.jsonl").read_text() == "1\n2\n"


def test_a_rank_that_adds_nothing_keeps_the_rows_of_the_one_that_does(run: AnyPath) -> None:
    (run / "metrics.jsonl").write_text("1\n")
    with Spool(run, writes=True), Spool(run, writes=True) as main:
        append(main, "metrics.jsonl", "2\n")
    assert (run / "metrics.jsonl").read_text() == "1\n2\n"


def test_ranks_that_do_not_write_leave_the_rows_of_the_first_one_alone(run: AnyPath) -> None:
    (run / "metrics.jsonl").write_text("1\n")
    with Spool(run, writes=False) as other:
        with Spool(run, writes=True) as first:
            append(first, "metrics.jsonl", "2\n")
        append(other, "metrics.jsonl", "of no use\n")
    assert (run / "metrics.jsonl").read_text() == "1\n2\n"


def test_a_run_that_fails_leaves_its_figures(run: AnyPath) -> None:
    with pytest.raises(ZeroDivisionError), Spool(run, writes=True) as spool:
        append(spool, "metrics.jsonl", "1\n")
        raise ZeroDivisionError
    assert (run / "metrics.jsonl").read_text() == "1\n"


def test_between_checkpoints_figures_are_copied_now_and_then(run: AnyPath, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now_s[0])
    with Spool(run, writes=True) as spool:
        append(spool, "metrics.jsonl", "1\n")
        spool.sync_if_due()
        assert not (run / "metrics.jsonl").exists()
        now_s[0] = EVERY_S
        spool.sync_if_due()
        assert (run / "metrics.jsonl").read_text() == "1\n"


def test_a_store_that_does_not_answer_for_a_moment_costs_no_run(
    run: AnyPath, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now_s = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now_s[0])
    with Spool(run, writes=True) as spool:
        append(spool, "metrics.jsonl", "1\n")
        with monkeypatch.context() as broken:
            broken.setattr("fsspec.implementations.memory.MemoryFileSystem._open", _refuse)
            now_s[0] = EVERY_S
            spool.sync_if_due()
            assert "figures could not be copied there (no answer)" in caplog.text
            with pytest.raises(OSError, match="no answer"):
                spool.sync()
    assert (run / "metrics.jsonl").read_text() == "1\n"


def _refuse(*_: object, **__: object) -> None:
    raise OSError("no answer")
