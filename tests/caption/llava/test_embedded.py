"""The committed weights, assembled with the fetched parts. Skipped where `reelpack weights` was not run."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from caption.captioner import CaptionItem, CaptionStage
from caption.config import CaptionConfig
from caption.llava.assemble import assemble
from curate.dataset.captions import CaptionStatus
from curate.encoders import weights
from curate.media.cut import CutConfig, cut_clip
from curate.media.encode import encode_mp4
from curate.media.still import encode_png
from curate.schema import Span
from curate.shards.tar import write_tar

EXCERPT = Path(__file__).parents[3] / "pipelines" / "demo" / "media" / "bbb_a.mp4"
SHOTS = {"rabbit": (109, 140), "squirrel": (668, 829)}
"""Frames of the excerpt, at 24 per second: the rabbit in a meadow; two squirrels before a tree."""


@pytest.mark.slow
def test_embedded_captioner_tells_the_rabbit_from_the_squirrels(tmp_path):
    try:
        for part in ("efficientnet-lite0", "smollm2-135m-instruct"):
            weights.resolve(part)
    except weights.MissingWeights as missing:
        pytest.skip(str(missing))
    folder = assemble()
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert assemble() == folder and {file: file.stat().st_mtime_ns for file in folder.iterdir()} == before
    samples = []
    for name, (start, end) in SHOTS.items():
        # 512 ticks a frame: the time base that the file's muxer chose
        span = Span(start_pts=start * 512, end_pts=end * 512, time_base=Fraction(1, 24 * 512))
        clip = cut_clip(str(EXCERPT), span, CutConfig(short_side_px=240))
        samples.append((name, {clip.ext: clip.data}))
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (24, 9, 16, 3), np.uint8).repeat(20, 1).repeat(20, 2)
    samples += [("foreign", {"mp4": encode_mp4(blocks, 24)}), ("photo", {"png": encode_png(_street())})]
    members = write_tar(str(tmp_path / "train-000000.tar"), samples)
    stage = CaptionStage(CaptionConfig(), str(tmp_path))
    stage.setup()
    items = [CaptionItem(clip_id=m.key, shard=m.shard, offset=m.offset, size=m.size, kind="video") for m in members]
    outcomes = stage.process(items)
    rabbit, squirrels, *unknown = (outcome.records for outcome in outcomes)
    assert "rabbit" in rabbit[0].text and "squirrel" not in rabbit[0].text
    assert "squirrel" in squirrels[0].text and "rabbit" not in squirrels[0].text
    for records in unknown:
        assert [(record.status, record.text) for record in records] == [(CaptionStatus.UNSURE, "")] * 2
        assert "does not look like the video" in records[0].findings[0].detail


def _street() -> np.ndarray:
    """(360, 640, 3): houses with windows at night."""
    rng = np.random.default_rng(1)
    image = np.full((360, 640, 3), 30, np.uint8)
    for left in range(0, 640, 80):
        top = int(rng.integers(40, 200))
        image[top:, left : left + 70] = rng.integers(60, 140, 3)
        image[top + 10 :: 30, left + 10 : left + 60 : 15] = (250, 230, 150)
    return image
