from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from curate.cut import CutStage, ShardConfig, ShardPlan, ShardWritten
from curate.media.encode import encode_mp4
from curate.media.version import local_version
from curate.scan import ScanConfig, ScanStage, SourceFile
from curate.scanned import Scanned
from curate.schema import Clip, FailureKind


@pytest.fixture
def clips(tmp_path: Path) -> tuple[Clip, ...]:
    """Two clips of one video, and one of a video that is gone."""
    frames = np.random.default_rng(0).integers(0, 256, (2, 96, 128, 3), np.uint8).repeat(20, axis=0)
    path = tmp_path / "video.mp4"
    path.write_bytes(encode_mp4(frames, 12))
    [scanned] = ScanStage(ScanConfig()).process([SourceFile(uri=str(path), path=str(path), size_bytes=1)])
    assert isinstance(scanned, Scanned)
    first, second = (one.clip for one in scanned.clips)
    return first, replace(first, clip_id="gone", video_uri="gone"), second


def test_a_shard_that_is_given_up_lacks_the_clips_that_cannot_be_cut_and_no_others(
    clips: tuple[Clip, ...], tmp_path: Path
) -> None:
    stage = CutStage(ShardConfig())
    plans = [ShardPlan(url=str(tmp_path / name / "train-000000.tar"), split="train", clips=clips) for name in "ab"]
    [cut] = stage.process(plans[:1])
    given_up = stage.give_up(plans[1], FailureKind.WORKER_DIED, "three workers died", 3)
    assert isinstance(cut, ShardWritten)
    assert (given_up.clips, given_up.failures) == (cut.clips, cut.failures)
    assert [failure.subject for failure in given_up.failures] == ["gone"]
    assert Path(plans[0].url).read_bytes() == Path(plans[1].url).read_bytes()


def test_a_video_that_changed_since_its_scan_gives_no_clip_of_other_bytes(
    clips: tuple[Clip, ...], tmp_path: Path
) -> None:
    first = replace(clips[0], video_version=local_version(clips[0].video_uri))
    with open(first.video_uri, "ab") as file:
        file.write(b"more of an upload")
    [cut] = CutStage(ShardConfig()).process(
        [ShardPlan(url=str(tmp_path / "train-000000.tar"), split="train", clips=(first,))]
    )
    assert isinstance(cut, ShardWritten)
    assert not cut.clips and [failure.kind for failure in cut.failures] == [FailureKind.CHANGED]
