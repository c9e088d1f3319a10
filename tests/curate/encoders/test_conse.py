import numpy as np
import pytest
import torch

from curate.encoders import weights
from curate.encoders.base import EncoderPool
from curate.encoders.conse import ConseConfig, ConseEncoder, class_names
from curate.encoders.efficientnet_lite import load_efficientnet_lite0, normalize
from curate.encoders.text import TextEncoder
from curate.encoders.text_config import TextEncoderConfig
from curate.encoders.weights import MissingWeights


@pytest.fixture(scope="module")
def conse(embedded_weights: None, encoders: EncoderPool) -> ConseEncoder:
    return encoders.load(ConseConfig(device="cpu").build())


def test_an_image_is_the_mean_of_its_likeliest_classes(conse: ConseEncoder, rabbit_frames: np.ndarray) -> None:
    text = TextEncoder(TextEncoderConfig(device="cpu", batch_size=256))
    text.setup()
    classes = text.embed([f"a photo of a {name}" for name in class_names()])
    center = sum(classes) / 1000
    features = conse.backbone.features(rabbit_frames)
    for probabilities, got in zip(conse.classify(features), conse.embed_images(rabbit_frames), strict=True):
        likeliest = sorted(range(1000), key=lambda index: -probabilities[index])[:10]
        mean = sum(probabilities[index] * (classes[index] - center) for index in likeliest)
        np.testing.assert_allclose(got, mean / np.linalg.norm(mean), atol=1e-4)


def test_a_rabbit_is_nearer_to_what_it_is_than_to_what_it_is_not(
    conse: ConseEncoder, rabbit_frames: np.ndarray
) -> None:
    right = ["a rabbit", "an animal"]
    wrong = ["skyscrapers at night", "a sports car", "a plate of food", "a page of text", "a logo", "people walking"]
    similarities = (conse.embed_images(rabbit_frames) @ conse.embed_texts([*right, *wrong]).T).mean(0)
    assert similarities[: len(right)].min() > similarities[len(right) :].max() + 0.1


def test_probabilities_sum_to_one_over_a_thousand_named_classes(
    conse: ConseEncoder, rabbit_frames: np.ndarray
) -> None:
    probabilities = conse.classify(conse.backbone.features(rabbit_frames))
    assert probabilities.shape == (len(rabbit_frames), len(class_names())) == (8, 1000)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-4)
    assert class_names()[probabilities.mean(0).argmax()] == "hare"


def test_the_classifier_on_pooled_features_is_the_whole_network(
    conse: ConseEncoder, rabbit_frames: np.ndarray
) -> None:
    model = load_efficientnet_lite0(weights.resolve("efficientnet-lite0"))
    with torch.inference_mode():
        expected = model(normalize(rabbit_frames)).softmax(-1).numpy()
    np.testing.assert_allclose(conse.classify(conse.backbone.features(rabbit_frames)), expected, atol=1e-5)


def test_prompt_and_number_of_classes_change_the_fingerprint(embedded_weights: None) -> None:
    configs = [ConseConfig(), ConseConfig(num_classes=5), ConseConfig(prompt="{}")]
    assert len({config.build().fingerprint for config in configs}) == 3


def test_missing_weights_say_how_to_get_them(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("REELPACK_CACHE", str(tmp_path))
    with pytest.raises(MissingWeights, match="reelpack weights efficientnet-lite0"):
        _ = ConseConfig().build().fingerprint
