from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest

from curate.dataset.store import Table
from curate.dedup.semantic import Embeddings
from curate.encoders.base import EncoderPool
from curate.encoders.efficientnet import EfficientNetConfig
from curate.scores.embedding import STEPS, EmbeddingConfig, EmbeddingScorer
from curate.scores.frames import ClipFrames, embed


@pytest.fixture(scope="module")
def scorer(encoders: EncoderPool, embedded_weights: None) -> EmbeddingScorer:
    built = EmbeddingConfig().build()
    built.setup(encoders)
    return built


def vectors(scorer: EmbeddingScorer, clips: list[ClipFrames]) -> np.ndarray:
    return np.array([score["embedding"] for score in scorer.score(clips)])


def test_it_is_the_mean_direction_of_the_frames_but_for_rounding(
    scorer: EmbeddingScorer, encoders: EncoderPool, film: list[ClipFrames]
) -> None:
    encoder = encoders.load(EfficientNetConfig().build())
    for clip, got in zip(film, vectors(scorer, film), strict=True):
        mean = embed([clip], encoder)[0].mean(0)
        np.testing.assert_allclose(got, mean / np.linalg.norm(mean), atol=0.5 / STEPS + 1e-6)
        np.testing.assert_array_equal(got * STEPS, np.rint(got * STEPS))
        assert np.linalg.norm(got) == pytest.approx(1, abs=1e-3)


def test_a_copy_is_nearer_than_another_shot(scorer: EmbeddingScorer, film: list[ClipFrames]) -> None:
    def copied(frame: np.ndarray) -> np.ndarray:
        cropped = cv2.resize(frame[8:-8, 12:-12], (320, 180), interpolation=cv2.INTER_AREA)
        return cv2.imdecode(cv2.imencode(".jpg", cropped, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR)

    copies = [ClipFrames(np.stack([copied(frame) for frame in clip.rgb])) for clip in film]
    similarity = vectors(scorer, film) @ vectors(scorer, copies).T
    others = similarity[~np.eye(len(film), dtype=bool)]
    assert similarity.diagonal().min() > others.max() + 0.15


def test_stored_vectors_come_back_and_are_small(
    scorer: EmbeddingScorer, film: list[ClipFrames], tmp_path: Path
) -> None:
    schema = pa.schema(
        [("clip_id", pa.string()), *((name, column.type) for name, column in EmbeddingConfig.columns.items())]
    )
    table = Table(str(tmp_path), schema, ["clip_id"])
    given = vectors(scorer, film)
    jittered = [np.roll(vector, shift) for shift in range(100) for vector in given]
    table.publish({"clip_id": f"{row:03d}", "embedding": vector.tolist()} for row, vector in enumerate(jittered))
    stored = table.read()
    np.testing.assert_array_equal(np.stack(stored["embedding"].to_pylist()), np.stack(jittered))
    assert Embeddings.of([stored], "embedding", table.ids()).vectors.shape == (300, 1280)
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert size / len(jittered) < 1.3 * 1280  # about a byte per number, of four
