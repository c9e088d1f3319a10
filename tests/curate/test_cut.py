from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from curate.cut import (
    PIECE_FRAMES,
    CutStage,
    JoinStage,
    PiecePlan,
    PieceWritten,
    ShardConfig,
    ShardPlan,
    ShardWritten,
    plan_pieces,
)
from curate.media.counter import frames_decoded
from curate.media.encode import encode_mp4
from curate.media.version import local_version
from curate.scan import ScanConfig, ScanStage, SourceFile
from curate.scanned import Scanned
from curate.schema import Clip, FailureKind, Span
from curate.shards.tar import TarReader, read_member


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


def written(folder: Path, groups: Sequence[Sequence[Clip]]) -> tuple[bytes, ShardWritten]:
    """The shard of these pieces."""
    pieces = tuple(PiecePlan(url=f"{folder}/{n}", clips=tuple(group)) for n, group in enumerate(groups))
    CutStage(ShardConfig()).process(pieces)
    plan = ShardPlan(url=f"{folder}/train-000000.tar", split="train", pieces=pieces)
    (shard,) = JoinStage().process([plan])
    return Path(plan.url).read_bytes(), shard


def test_a_piece_that_is_given_up_lacks_the_clips_that_cannot_be_cut_and_no_others(
    clips: tuple[Clip, ...], tmp_path: Path
) -> None:
    stage = CutStage(ShardConfig())
    plans = [PiecePlan(url=str(tmp_path / name), clips=clips) for name in "ab"]
    [cut] = stage.process(plans[:1])
    given_up = stage.give_up(plans[1], FailureKind.WORKER_DIED, "three workers died", 3)
    assert cut == given_up
    assert [failure.subject for failure in given_up.failures] == ["gone"]
    assert Path(plans[0].url).read_bytes() == Path(plans[1].url).read_bytes()


def test_a_shard_is_the_same_of_any_pieces(clips: tuple[Clip, ...], tmp_path: Path) -> None:
    first, gone, second = clips
    whole, shard = written(tmp_path / "whole", [(first, second)])
    assert written(tmp_path / "two", [(first,), (gone,), (second,)]) == (whole, shard)
    reader = TarReader(str(tmp_path / "whole"))
    for clip in shard.clips:
        member = clip.member
        row = {"shard": member.shard, "offset": member.offset, "size": member.size, "digest": member.digest}
        assert b"ftyp" in read_member(reader, {**row, "clip_id": clip.clip_id})[:16]
    assert [clip.clip_id for clip in shard.clips] == [first.clip_id, second.clip_id]


def test_clips_that_all_fail_are_no_shard(clips: tuple[Clip, ...], tmp_path: Path) -> None:
    pieces = (PiecePlan(url=str(tmp_path / "piece"), clips=clips[1:2]),)
    CutStage(ShardConfig()).process(pieces)
    plan = ShardPlan(url=str(tmp_path / "train-000000.tar"), split="train", pieces=pieces)
    assert JoinStage().process([plan]) == [ShardWritten(clips=())]
    assert not Path(plan.url).exists()


def test_a_whole_piece_is_not_cut_again_and_one_that_lacks_a_clip_is(clips: tuple[Clip, ...], tmp_path: Path) -> None:
    stage = CutStage(ShardConfig())
    whole = PiecePlan(url=str(tmp_path / "whole"), clips=(clips[0], clips[2]))
    partial = PiecePlan(url=str(tmp_path / "partial"), clips=clips[:2])
    first = stage.process([whole, partial])
    before = frames_decoded()
    assert stage.process([whole]) == first[:1] == [PieceWritten(failures=())]
    assert frames_decoded() == before
    assert stage.process([partial]) == first[1:]
    assert frames_decoded() > before


def test_pieces_are_bounded_in_frames_and_hold_one_clip_at_least(clips: tuple[Clip, ...]) -> None:
    span = Span(start_pts=0, end_pts=1, time_base=Fraction(1))
    many = [
        replace(clips[0], clip_id=f"{number:04}", span=span, num_frames=frames)
        for number, frames in enumerate([100] * 7 + [5000, 1, 599, 1])
    ]
    pieces = plan_pieces("folder", many, {}, {}, "key")
    assert [clip for piece in pieces for clip in piece.clips] == many
    assert [len(piece.clips) for piece in pieces] == [6, 1, 1, 2, 1]
    assert all(piece.num_frames <= PIECE_FRAMES or len(piece.clips) == 1 for piece in pieces)
    other = plan_pieces("folder", many, {"0000": {"title": "A"}}, {}, "key")
    assert [one.url == same.url for one, same in zip(pieces, other, strict=True)] == [False] + [True] * 4


def test_a_video_that_changed_since_its_scan_gives_no_clip_of_other_bytes(
    clips: tuple[Clip, ...], tmp_path: Path
) -> None:
    first = replace(clips[0], video_version=local_version(clips[0].video_uri))
    with open(first.video_uri, "ab") as file:
        file.write(b"more of an upload")
    [cut] = CutStage(ShardConfig()).process([PiecePlan(url=str(tmp_path / "piece"), clips=(first,))])
    assert isinstance(cut, PieceWritten)
    assert [failure.kind for failure in cut.failures] == [FailureKind.CHANGED]
