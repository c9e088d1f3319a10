"""The step that scores: what a changed scorer and an early exit leave undone."""

from pathlib import Path

import fsspec
import numpy as np
import pytest

from curate.dataset.dataset import Dataset
from curate.media.encode import encode_mp4
from pipelines.config import Config, load_config
from pipelines.drivers.curate import curate
from tests.support.scorers import only
from tests.support.snapshot import snapshot
from tests.support.videos import FPS, moving, write_video

NUM_FRAMES = 14
"""Of each film."""
NONE_KEPT = "select.rules.duration_s.min=5"


def config(*overrides: str) -> Config:
    base = ["scan.detector.kind=adaptive", "execute.executor=local", "score.num_frames=4", "score.short_side_px=64"]
    return load_config(overrides=[*base, *overrides])


def scorers(min_moving: float) -> str:
    return f"score.scorers={only(static_overlay={'min_moving': min_moving}, brisque={})}"


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """A bright film and a dark one."""
    write_video(tmp_path / "films" / "bright.mp4", moving(1, NUM_FRAMES / FPS))
    write_video(tmp_path / "films" / "dark.mp4", moving(2, NUM_FRAMES / FPS) // np.uint8(8))
    return tmp_path / "films"


def test_a_changed_parameter_of_a_scorer_runs_that_scorer_alone(films: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = curate([str(films)], str(out), config(NONE_KEPT, scorers(0.75)))
    before = {path: path.stat().st_mtime_ns for path in (out / "tables" / "scores").rglob("*.parquet")}
    again = curate([str(films)], str(out), config(NONE_KEPT, scorers(0.9)))
    after = {path: path.stat().st_mtime_ns for path in (out / "tables" / "scores").rglob("*.parquet")}
    assert again.num_frames_decoded == first.num_frames_decoded - 2 * NUM_FRAMES, "scored again, not scanned"
    assert before.items() <= after.items()
    (new,) = after.keys() - before.keys()
    assert new.parent.name.startswith("static_overlay-")
    rows = {name: found for name, found in snapshot(out).items() if "/scores/" in name}
    assert [len(found) for found in rows.values()] == [2, 2, 2], "static_overlay twice, brisque once"
    last = curate([str(films)], str(out), config(NONE_KEPT, scorers(0.75)))
    assert last.num_frames_decoded == 0, "what was stored under the old parameter is still there"


def test_an_early_exit_scores_only_what_the_policy_may_keep(films: Path, tmp_path: Path) -> None:
    out, policy = str(tmp_path / "out"), ["select.rules.luminance.min=0.3", "score.early_exit=true", scorers(0.75)]
    curate([str(films)], out, config(*policy))
    again = curate([str(films)], out, config(*policy))
    assert again.num_frames_decoded == 0, "a rerun finds nothing to do"
    clips = {Path(row["video_uri"]).stem: row for row in Dataset(out).read_clips().to_pylist()}
    assert (clips["bright"]["decision"], clips["dark"]["decision"]) == ("keep", "reject")
    assert clips["bright"]["brisque"] is not None
    assert clips["dark"]["brisque"] is None
    free = curate([str(films)], out, config(scorers(0.75), "select.rules.luminance.min=null"))
    assert free.num_indexed == 2
    assert NUM_FRAMES < free.num_frames_decoded <= 2 * NUM_FRAMES, "the other is cut, and scored by some frames"


def test_an_early_exit_does_not_fetch_the_film_of_a_clip_that_is_rejected_already(tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    store.pipe("/early/films/dark.mp4", encode_mp4(moving(2, NUM_FRAMES / FPS) // np.uint8(8), FPS))
    store.pipe("/early/more/bright.mp4", encode_mp4(moving(1, NUM_FRAMES / FPS), FPS))
    staging = f"execute.staging.cache_dir={tmp_path / 'cache'}"
    policy = ["select.rules.luminance.min=0.3", "score.early_exit=true", staging]
    curate(["memory://early/films"], str(tmp_path / "out"), config(*policy, "score.scorers=null"))
    store.rm("/early/films", recursive=True)
    summary = curate(["memory://early/more"], str(tmp_path / "out"), config(*policy, scorers(0.75)))
    assert (summary.num_indexed, summary.failures) == (1, ())
