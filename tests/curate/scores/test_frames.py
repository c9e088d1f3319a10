from collections.abc import Sequence

import numpy as np
import pytest

from curate.encoders.base import EncoderPool
from curate.encoders.efficientnet import EfficientNetConfig
from curate.scores.frames import ClipFrames, by_clip, embed


def pictures(*counts: int) -> list[list[np.ndarray]]:
    rng = np.random.default_rng(0)
    return [[rng.integers(0, 256, (4 + i, 6, 3), np.uint8) for _ in range(n)] for i, n in enumerate(counts)]


@pytest.mark.parametrize(("joined", "calls"), [(True, [6]), (False, [1, 3, 2])])
def test_each_clip_gets_the_rows_of_its_own_pictures(joined: bool, calls: list[int]) -> None:
    sizes = []

    def model(batch: Sequence[np.ndarray]) -> np.ndarray:
        sizes.append(len(batch))
        return np.array([[picture.mean(), picture.shape[0]] for picture in batch])

    clips = pictures(1, 3, 2)
    for own, rows in zip(clips, by_clip(model, clips, joined), strict=True):
        np.testing.assert_array_equal(rows, [[picture.mean(), picture.shape[0]] for picture in own])
    assert sizes == calls


def test_joining_clips_as_a_gpu_does_moves_an_embedding_by_rounding_only(
    encoders: EncoderPool, embedded_weights: None, film: list[ClipFrames]
) -> None:
    encoder = encoders.load(EfficientNetConfig().build())
    images = [list(clip.rgb) for clip in film]
    for clip, features in zip(film, by_clip(encoder.backbone.features, images, joined=True), strict=True):
        np.testing.assert_allclose(encoder.embed_features(features), embed([clip], encoder)[0], atol=1e-5)


@pytest.mark.parametrize(("total", "count", "expected"), [(8, 2, [2, 6]), (8, 3, [1, 4, 6]), (3, 9, [0, 1, 2])])
def test_frames_are_spread_evenly(total: int, count: int, expected: list[int]) -> None:
    assert ClipFrames(np.zeros((total, 4, 4, 3), np.uint8)).spread(count) == expected
