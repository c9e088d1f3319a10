import io
import logging
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from curate.cut import CutStage, PiecePlan, ShardConfig
from curate.media.counter import counts
from curate.scan import IdentifyStage, ScanConfig, ScanStage, SourceFile
from curate.scanned import Scanned
from curate.schema import Failure, FailureKind
from pipelines.console import progress
from pipelines.console.pace import Pace
from pipelines.console.progress import BYTES, FRAMES, SECONDS, STEPS, Line, Unit
from pipelines.console.tables import out
from pipelines.execute.base import ExecuteConfig, Resources
from pipelines.execute.build import open_executor
from pipelines.execute.local import LocalExecutor
from tests.support.stages import Reading
from tests.support.videos import FPS, moving, write_video


def outcomes() -> Iterator[tuple[int, object]]:
    for number in range(10):
        failure = Failure(subject=str(number), step="double", kind=FailureKind.IO, detail="")
        yield number, failure if number % 4 == 3 else 2 * number


@pytest.fixture(params=[False, True], ids=["log", "terminal"])
def console(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Console:
    console = Console(file=io.StringIO(), force_terminal=request.param, width=80)
    monkeypatch.setattr(progress, "console", console)
    return console


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_items_pass_through_and_failures_are_counted(console: Console) -> None:
    assert list(progress.track(outcomes(), 10, "double")) == list(outcomes())
    assert "double" in written(console)
    assert "10/10" in written(console)
    assert "2 failed" in written(console)
    assert console.is_terminal or "\x1b" not in written(console)


def test_items_without_outcomes_are_no_failures_and_no_items_have_no_line(console: Console) -> None:
    assert list(progress.track(["a", (), ("b", "c")], 3, "read")) == ["a", (), ("b", "c")]
    assert "failed" not in written(console)
    assert list(progress.track([], 0, "cut")) == []
    assert "cut" not in written(console)


def test_an_item_that_takes_long_moves_the_line(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    """The only item does not end before the line has shown that a third of it is done."""
    monkeypatch.setattr(progress, "LOG_S", 0.01)
    monkeypatch.setattr(progress, "REDRAW_S", 0.01)
    seen, update = threading.Event(), Line.update

    def watched(line: Line, under_way: dict[str, float]) -> None:
        update(line, under_way)
        if "33%" in line.text(80):
            seen.set()

    monkeypatch.setattr(Line, "update", watched)
    executor = LocalExecutor()
    results = progress.tracked(executor, Reading(seen.wait), [300], Resources(), "scan", BYTES, float)
    assert list(results) == [(300, 300)]


@pytest.mark.ray
@pytest.mark.usefixtures("private_ray")
def test_an_item_that_takes_long_moves_on_ray_too(tmp_path: Path) -> None:
    with open_executor(ExecuteConfig(executor="ray", num_workers=1)) as executor:
        results: list[Any] = []
        run = executor.run(Reading(tmp_path / "seen"), [300], Resources())
        work = threading.Thread(target=lambda: results.extend(run), daemon=True)
        work.start()
        while executor.under_way().get("bytes") != 100 and work.is_alive():
            work.join(0.1)
        (tmp_path / "seen").touch()
        work.join()
        assert results == [(300, 300)]


def test_stages_count_the_work_that_their_items_are_measured_in(tmp_path: Path) -> None:
    write_video(tmp_path / "film.mp4", moving(1, 3))
    path, size = str(tmp_path / "film.mp4"), (tmp_path / "film.mp4").stat().st_size
    file = SourceFile(uri=path, path=path, size_bytes=size)

    def counted(stage: Any, items: Sequence[Any], name: str) -> tuple[Any, float]:
        before = counts()[name]
        (outcome,) = stage.process(items)
        return outcome, counts()[name] - before

    assert counted(IdentifyStage(ScanConfig()), [file], BYTES.name)[1] == size
    assert IdentifyStage(ScanConfig()).process([file])[0].declared_s == pytest.approx(3)
    scanned, seconds = counted(ScanStage(ScanConfig()), [file], SECONDS.name)
    assert isinstance(scanned, Scanned)
    assert seconds == pytest.approx(3, abs=0.1)
    clips = tuple(one.clip for one in scanned.clips)
    plan = PiecePlan(url=str(tmp_path / "piece"), clips=clips)
    assert counted(CutStage(ShardConfig()), [plan], FRAMES.name)[1] == 3 * FPS


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def line_after(seconds: int, per_s: float, total: float, unit: Unit = BYTES) -> Line:
    clock = Clock()
    line = Line("identify", 11, total, unit, Pace(total, clock))
    for clock.now in range(seconds + 1):
        line.update({unit.name: clock.now * per_s})
    return line


def test_a_line_says_how_far_how_fast_and_how_long() -> None:
    bar = "━" * 10 + "─" * 26
    assert line_after(60, 12e6, 2400e6).text(80) == f"identify   {bar}   30%  0/11  2 min left  12 MB/s"
    assert "2 min left" not in line_after(5, 12e6, 2400e6).text(80), "after five seconds nobody knows"
    steps = line_after(60, 0.2, 1000, STEPS)
    steps.notes = ("loss 0.123", "1,234 tokens/s", "MFU 31%", "packed 97%", "0.4 GiB")
    assert "5.0 s each  loss 0.123" in steps.text(80)


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_a_line_fits_and_keeps_what_matters(width: int) -> None:
    line = line_after(60, 1e6, 2400e6)
    line.num_done, line.num_failed = 3, 2
    line.notes = ("a note that is long enough not to fit in eighty columns beside the others",)
    text = line.text(width)
    assert len(text) <= width
    assert text.startswith("identify")
    assert "2.5%" in text
    shown_from = {"3/11": 30, "2 failed": 40, "39 min left": 80, "1 MB/s": 80, "─": 80, "a note": 200}
    for part, least in shown_from.items():
        assert (part in text) == (width >= least)


def test_log_lines_come_above_the_progress_line(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    monkeypatch.setattr(progress, "console", console)
    logger, handler = logging.getLogger("some.library"), logging.StreamHandler(sys.__stderr__)
    logger.addHandler(handler)
    try:
        for _ in progress.track([1, 2], 2, "double"):
            logger.error("a node was lost")
    finally:
        logger.removeHandler(handler)
    assert written(console).count("a node was lost") == 2
    assert handler.stream is sys.__stderr__


def test_an_error_over_a_result_takes_the_line_away(console: Console) -> None:
    with pytest.raises(OSError, match="No space"):
        for _ in progress.track(outcomes(), 10, "double"):
            raise OSError(28, "No space left on device")
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]


@pytest.mark.parametrize("printing", [progress.console, out])
def test_a_name_is_printed_as_it_is(printing: Console, capsys: pytest.CaptureFixture[str]) -> None:
    printing.print("v:cat:.mp4")
    assert "".join(capsys.readouterr()).strip() == "v:cat:.mp4"
