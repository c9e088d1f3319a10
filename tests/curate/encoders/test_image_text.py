"""The contract of every member of `ImageTextConfig`."""

import pickle
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from pydantic import BaseModel

from curate.encoders.base import EncoderPool, ImageTextEncoder
from curate.encoders.config import ImageTextConfig
from curate.encoders.conse import ConseConfig
from curate.encoders.open_clip import OpenClipConfig

MEMBERS = get_args(get_args(ImageTextConfig)[0])
TEXTS = ["a rabbit in a meadow", "skyscrapers at night", "a page of text"]


@pytest.fixture(scope="module", params=MEMBERS, ids=lambda member: member.__name__)
def config(request: pytest.FixtureRequest, embedded_weights: None, tiny_open_clip: Path) -> Any:
    examples = {ConseConfig: {}, OpenClipConfig: {"model": f"local-dir:{tiny_open_clip}"}}
    return request.param(device="cpu", **examples[request.param])


@pytest.fixture(scope="module")
def encoder(config: Any, encoders: EncoderPool) -> ImageTextEncoder:
    return encoders.load(config.build())


def random_images(num: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num, height, width, 3), np.uint8)


def test_embeddings_are_float32_of_unit_length_in_one_space(encoder: ImageTextEncoder) -> None:
    images, texts = encoder.embed_images(random_images(3, 48, 80)), encoder.embed_texts(TEXTS)
    assert images.dtype == texts.dtype == np.float32
    assert images.shape == texts.shape
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-4)


def test_neither_order_nor_batch_size_matters(config: BaseModel, encoder: ImageTextEncoder) -> None:
    images = random_images(5, 64, 48)
    small = config.model_copy(update={"batch_size": 2}).build()  # type: ignore[attr-defined]
    small.setup()
    np.testing.assert_allclose(encoder.embed_images(images), small.embed_images(images[::-1])[::-1], atol=1e-4)
    np.testing.assert_allclose(encoder.embed_texts(TEXTS), small.embed_texts(TEXTS[::-1])[::-1], atol=1e-4)


def test_different_inputs_get_different_embeddings(encoder: ImageTextEncoder) -> None:
    assert len(np.unique(encoder.embed_texts(TEXTS), axis=0)) == len(TEXTS)
    images = np.stack([np.full((32, 32, 3), 20, np.uint8), random_images(1, 32, 32)[0]])
    assert len(np.unique(encoder.embed_images(images), axis=0)) == 2


def test_any_picture_size_goes_through(encoder: ImageTextEncoder) -> None:
    for height, width in [(1, 1), (7, 90), (90, 7)]:
        assert np.isfinite(encoder.embed_images(random_images(1, height, width))).all()


def test_a_copy_pickled_before_setup_computes_the_same(config: Any, encoder: ImageTextEncoder) -> None:
    copy = pickle.loads(pickle.dumps(config.build()))
    assert copy.fingerprint == encoder.fingerprint
    copy.setup()
    np.testing.assert_allclose(copy.embed_texts(TEXTS), encoder.embed_texts(TEXTS), atol=1e-5)


def test_the_fingerprint_ignores_where_and_how_fast(config: BaseModel) -> None:
    moved = config.model_copy(update={"device": "cuda", "batch_size": 1})
    assert moved.build().fingerprint == config.build().fingerprint  # type: ignore[attr-defined]
