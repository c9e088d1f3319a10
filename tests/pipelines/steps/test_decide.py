"""What the decision makes of failures, whichever step they are of."""

from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from curate.dataset.dataset import Dataset
from curate.dataset.rows import failure_row
from curate.schema import Failure, FailureKind
from pipelines.config import load_config
from pipelines.drivers.curate import curate
from pipelines.steps.decide import decided, read_stored
from tests.support.videos import moving, write_video

SETTINGS = [
    "scan.detector.kind=adaptive",
    "score.scorers=null",
    "execute.executor=local",
    "select.split.val_fraction=0",
]
FAMILIES = {"sheen-1": {"sheen": pa.float64()}}


@pytest.fixture
def one_clip(tmp_path: Path) -> SimpleNamespace:
    write_video(tmp_path / "films/1.mp4", moving(1, 1.5))
    config = load_config(overrides=SETTINGS)
    curate([str(tmp_path / "films")], str(tmp_path / "out"), config)
    dataset = Dataset(str(tmp_path / "out"))
    (row,) = dataset.clips.rows()

    def fail(step: str, key: str) -> None:
        failure = Failure(subject=row["clip_id"], step=step, kind=FailureKind.IO, detail="gone")
        dataset.failures.publish([failure_row(failure, key, "reelpack retry")])

    def decision(families: dict[str, dict[str, pa.DataType]]) -> tuple[str, list[str]]:
        table = decided(dataset, read_stored(dataset, config, families), config, families)
        return table["decision"].to_pylist()[0], table["reasons"].to_pylist()[0]

    return SimpleNamespace(dataset=dataset, clip_id=row["clip_id"], fail=fail, decision=decision)


def test_a_clip_that_could_not_be_decoded_has_failed_until_it_is_scored(one_clip: SimpleNamespace) -> None:
    one_clip.fail("score", "sheen-1")
    assert one_clip.decision(FAMILIES) == ("failed", ["score"])
    one_clip.dataset.scores("sheen-1", FAMILIES["sheen-1"]).publish([{"clip_id": one_clip.clip_id, "sheen": 1.0}])
    assert one_clip.decision(FAMILIES) == ("keep", [])


def test_a_scorer_that_no_rule_asks_for_may_fail_also_where_it_is_the_only_one(one_clip: SimpleNamespace) -> None:
    one_clip.fail("sheen-1", "sheen-1")
    assert one_clip.decision(FAMILIES) == ("keep", [])


@pytest.mark.parametrize("step", ["caption", "encode"])
def test_failures_of_later_steps_decide_nothing(one_clip: SimpleNamespace, step: str) -> None:
    one_clip.fail(step, "")
    assert one_clip.decision({}) == ("keep", [])


def test_what_was_cut_for_training_is_never_held_out_nor_is_a_later_copy_of_it(
    one_clip: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "films/copy.mp4", moving(1, 1.5)[:-1])
    write_video(tmp_path / "films/other.mp4", moving(2, 1.5))
    settings = [*SETTINGS, 'select.split.hold_out=["*"]']
    curate([str(tmp_path / "films")], one_clip.dataset.url, load_config(overrides=settings))
    splits = {Path(row["video_uri"]).name: row["split"] for row in one_clip.dataset.read_clips().to_pylist()}
    assert splits == {"1.mp4": "train", "copy.mp4": "train", "other.mp4": "val"}
    assert "2 clips stay train" in capsys.readouterr().err
