"""The contract of every image encoder, of those that embed texts too, and the pool that shares them."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.encoders import config as family
from curate.encoders.base import EncoderPool, ImageEncoder, ImageTextEncoder
from curate.encoders.config import ImageTextConfig
from curate.encoders.conse import ConseConfig
from curate.encoders.efficientnet import EfficientNetConfig
from curate.encoders.open_clip import OpenClipConfig
from tests.support.families import members, with_member

EXTENDED = with_member(family, "tests.support.members.color_grid", "ColorGridConfig", after="EfficientNetConfig")
"""The family with the member that CONTRIBUTING.md adds."""
TEXTS = ["a rabbit in a meadow", "skyscrapers at night", "a page of text"]


def made(member: Any, tiny_open_clip: Path) -> Any:
    examples = {OpenClipConfig: {"model": f"local-dir:{tiny_open_clip}"}}
    return member(device="cpu", **examples.get(member, {}))


@pytest.fixture(scope="module", params=members(EXTENDED.ImageConfig), ids=lambda member: member.__name__)
def config(request: pytest.FixtureRequest, embedded_weights: None, tiny_open_clip: Path) -> Any:
    return made(request.param, tiny_open_clip)


@pytest.fixture(scope="module", params=members(ImageTextConfig), ids=lambda member: member.__name__)
def text_config(request: pytest.FixtureRequest, embedded_weights: None, tiny_open_clip: Path) -> Any:
    return made(request.param, tiny_open_clip)


@pytest.fixture(scope="module")
def encoder(config: Any, encoders: EncoderPool) -> ImageEncoder:
    return encoders.load(config.build())


@pytest.fixture(scope="module")
def text_encoder(text_config: Any, encoders: EncoderPool) -> ImageTextEncoder:
    return encoders.load(text_config.build())


def embed(encoder: ImageEncoder, images: Any) -> np.ndarray:
    return encoder.embed_features(encoder.backbone.features(images))


def random_images(num: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num, height, width, 3), np.uint8)


def test_pictures_of_any_size_become_unit_vectors(encoder: ImageEncoder) -> None:
    images = [random_images(1, height, width)[0] for height, width in ((48, 80), (1, 1), (7, 300), (90, 7))]
    vectors = embed(encoder, images)
    assert vectors.dtype == np.float32 and len(vectors) == len(images)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)


def test_different_pictures_get_different_embeddings_whatever_their_order_and_batch(
    config: Any, encoder: ImageEncoder
) -> None:
    images = [np.full((32, 32, 3), 20, np.uint8), *random_images(4, 64, 48)]
    vectors = embed(encoder, images)
    assert len(np.unique(vectors, axis=0)) == len(images)
    small = config.model_copy(update={"batch_size": 2}).build()
    small.setup()
    np.testing.assert_allclose(vectors, embed(small, images[::-1])[::-1], atol=1e-4)


def test_the_pool_loads_equal_encoders_once(config: Any, encoders: EncoderPool) -> None:
    loaded = encoders.load(config.build())
    assert encoders.load(config.model_copy(update={"batch_size": 1}).build()) is loaded


def test_a_copy_pickled_before_setup_computes_the_same(config: Any, encoder: ImageEncoder) -> None:
    copy = pickle.loads(pickle.dumps(config.build()))
    assert copy.fingerprint == encoder.fingerprint
    copy.setup()
    images = random_images(1, 48, 80)
    np.testing.assert_allclose(embed(copy, images), embed(encoder, images), atol=1e-5)


def test_the_fingerprint_ignores_where_and_how_fast(config: Any) -> None:
    moved = config.model_copy(update={"device": "cuda", "batch_size": 1})
    assert moved.build().fingerprint == config.build().fingerprint


def test_images_and_texts_are_unit_vectors_of_one_space(text_encoder: ImageTextEncoder) -> None:
    images, texts = text_encoder.embed_images(random_images(3, 48, 80)), text_encoder.embed_texts(TEXTS)
    assert images.dtype == texts.dtype == np.float32 and images.shape == texts.shape
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-4)
    np.testing.assert_array_equal(images, embed(text_encoder, random_images(3, 48, 80)))


def test_different_texts_get_different_embeddings_whatever_their_order_and_batch(
    text_config: Any, text_encoder: ImageTextEncoder
) -> None:
    vectors = text_encoder.embed_texts(TEXTS)
    assert len(np.unique(vectors, axis=0)) == len(TEXTS)
    small = text_config.model_copy(update={"batch_size": 2}).build()
    small.setup()
    np.testing.assert_allclose(vectors, small.embed_texts(TEXTS[::-1])[::-1], atol=1e-4)


def test_encoders_on_the_same_weights_share_a_backbone(encoders: EncoderPool, embedded_weights: None) -> None:
    plain, words = encoders.load(EfficientNetConfig().build()), encoders.load(ConseConfig().build())
    assert plain.fingerprint != words.fingerprint
    assert plain.backbone is words.backbone
