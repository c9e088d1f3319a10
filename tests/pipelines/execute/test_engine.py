"""The engine by itself: rows through score, select and report, with scorers that do nothing."""

from contextlib import nullcontext
from pathlib import Path

from curate.dataset.dataset import Dataset
from tests.support.engine import run_steps


def test_rows_are_scored_selected_and_reported_without_frames(tmp_path: Path) -> None:
    # The promise is 60 s for 100,000; the start, of imports, weighs more in a thousand.
    run_steps(str(tmp_path), num_clips=1000, kind="local", embedding_dim=8, timed=nullcontext)
    clips = Dataset(str(tmp_path / "dataset")).read_clips()
    assert clips.num_rows == 1000
    assert clips["nothing_0"].null_count == 0
    assert {"keep", "reject"} <= set(clips["decision"].to_pylist())
    assert any("duplicate" in reasons for reasons in clips["reasons"].to_pylist())
    assert (tmp_path / "dataset/report/index.html").stat().st_size > 10_000
