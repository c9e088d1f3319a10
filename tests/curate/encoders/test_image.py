"""The contract of every member of `ImageConfig`, and the pool that shares them."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from curate.encoders.base import EncoderPool, ImageEncoder
from curate.encoders.config import ImageConfig
from curate.encoders.conse import ConseConfig
from curate.encoders.efficientnet import EfficientNetConfig
from curate.encoders.open_clip import OpenClipConfig

MEMBERS = get_args(get_args(ImageConfig)[0])


@pytest.fixture(scope="module", params=MEMBERS, ids=lambda member: member.__name__)
def config(request: pytest.FixtureRequest, embedded_weights: None, tiny_open_clip: Path) -> Any:
    examples = {OpenClipConfig: {"model": f"local-dir:{tiny_open_clip}"}}
    return request.param(device="cpu", **examples.get(request.param, {}))


@pytest.fixture(scope="module")
def encoder(config: Any, encoders: EncoderPool) -> ImageEncoder:
    return encoders.load(config.build())


def test_pictures_of_any_size_become_unit_vectors(encoder: ImageEncoder) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, shape, np.uint8) for shape in ((48, 80, 3), (1, 1, 3), (7, 300, 3))]
    vectors = encoder.embed_features(encoder.backbone.features(images))
    assert vectors.dtype == np.float32 and len(vectors) == 3
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)


def test_the_pool_loads_equal_encoders_once_and_lends_their_backbones(config: Any, encoders: EncoderPool) -> None:
    loaded = encoders.load(config.build())
    assert encoders.load(config.model_copy(update={"batch_size": 1}).build()) is loaded


def test_encoders_on_the_same_weights_share_a_backbone(encoders: EncoderPool, embedded_weights: None) -> None:
    plain, words = encoders.load(EfficientNetConfig().build()), encoders.load(ConseConfig().build())
    assert plain.fingerprint != words.fingerprint
    assert plain.backbone is words.backbone
