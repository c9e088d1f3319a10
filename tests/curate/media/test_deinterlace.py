"""Interlaced films: said per clip, rejected by a rule, made whole by an option, frame for frame."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from curate.media.cut import CutConfig, cut_clip
from curate.media.decode import decode_clip
from curate.media.deinterlace import deinterlaced
from curate.media.geometry import RgbConverter, geometry
from curate.media.probe import probe
from curate.media.sample import sample_frames
from curate.media.stream import VideoReader
from curate.rules import Rule
from curate.scan import ScanConfig, ScanStage, SourceFile
from curate.scanned import Scanned
from curate.schema import Span
from curate.scores.config import ScoreConfig
from curate.scores.score import ScoreStage
from curate.select import SelectConfig, broken

NUM_FRAMES = 12


@pytest.fixture
def moving() -> np.ndarray:
    """Woven fields of a bar that moves 8 pixels a field, `(T, 96, 160, 3)`."""
    fields = np.full((2 * NUM_FRAMES, 96, 160, 3), 40, np.uint8)
    for number, field in enumerate(fields):
        field[:, 8 * (number % 16) : 8 * (number % 16) + 24] = 220
    woven = fields[::2].copy()
    woven[:, 1::2] = fields[1::2, 1::2]
    return woven


@pytest.fixture
def film(moving: np.ndarray, write_video: Callable[..., str]) -> str:
    return write_video("a.mp4", moving, fps=Fraction(25), options={"x264-params": "tff=1", "crf": "10"})


def combing(rgb: np.ndarray) -> float:
    """How much neighboring lines differ from those next to them."""
    luma = rgb.astype(float).mean(axis=-1)
    return float(np.abs(2 * luma[:, 1:-1] - luma[:, :-2] - luma[:, 2:]).mean())


def test_interlacing_is_a_score_with_a_rule(film: str, moving: np.ndarray, write_video: Callable[..., str]) -> None:
    for path, share in ((film, 1.0), (write_video("b.mp4", moving), 0.0)):
        [result] = ScanStage(ScanConfig()).process([SourceFile(uri=path, path=path, size_bytes=0)])
        assert isinstance(result, Scanned) and result.clips
        assert all(clip.signals["interlaced_fraction"] == share for clip in result.clips)
        rejected = broken(
            {"interlaced_fraction": share}, "video", SelectConfig(rules={"interlaced_fraction": Rule(max=0)})
        )
        assert rejected == ["interlaced_fraction.max"] * int(share)


def test_cut_clips_are_made_whole_frame_for_frame(film: str) -> None:
    time_base = probe(film, "", "").time_base
    span = Span(start_pts=int(2 / (25 * time_base)), end_pts=int(10 / (25 * time_base)), time_base=time_base)
    woven, whole = (cut_clip(film, span, CutConfig(deinterlace=on)) for on in (False, True))
    assert woven.num_frames == whole.num_frames == 8 and woven.duration_s == whole.duration_s
    before, after = decode_clip(woven.data), decode_clip(whole.data)
    assert np.array_equal(before.pts_s, after.pts_s)
    assert combing(after.rgb) < combing(before.rgb) / 4


def test_sampled_frames_are_those_of_the_same_moments(film: str) -> None:
    time_base = probe(film, "", "").time_base
    span = Span(start_pts=0, end_pts=int(NUM_FRAMES / (25 * time_base)), time_base=time_base)
    woven, whole = (sample_frames(film, span, 4, short_side_px=None, deinterlace=on) for on in (False, True))
    assert np.array_equal(woven.pts, whole.pts)
    assert combing(whole.rgb) < combing(woven.rgb) / 4
    with VideoReader(film) as reader:
        pass_over_all = {frame.pts: frame for frame in deinterlaced(reader.frames(time_base))}
        shape = geometry(pass_over_all[0].decoded)
        convert = RgbConverter(shape, shape.scaled(None))
        for pts, rgb in zip(whole.pts.tolist(), whole.rgb, strict=True):
            assert np.array_equal(rgb, convert(pass_over_all[pts].image)), "made with the frame before it, too"


def test_progressive_pictures_pass_unchanged(numbered, write_video: Callable[..., str]) -> None:
    path = write_video("a.mp4", numbered.draw(9))
    span = Span(start_pts=0, end_pts=10**6, time_base=probe(path, "", "").time_base)
    assert cut_clip(path, span, CutConfig(deinterlace=True)).data == cut_clip(path, span, CutConfig()).data


def test_scores_of_whole_pictures_are_other_scores() -> None:
    brisque = {"brisque": {}}
    plain, whole = (ScoreConfig.model_validate({"scorers": brisque, "deinterlace": on}) for on in (False, True))
    assert ScoreStage(plain).families.keys() != ScoreStage(whole).families.keys()
