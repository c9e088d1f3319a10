from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from curate.encoders.base import ImageTextEncoder
from curate.encoders.descriptions import embed_described, parts_of
from curate.encoders.open_clip import OpenClipConfig


@pytest.fixture(scope="module")
def encoder(tiny_open_clip: Path) -> ImageTextEncoder:
    """Reads 16 tokens."""
    built = OpenClipConfig(model=f"local-dir:{tiny_open_clip}", device="cpu").build()
    built.setup()
    return built


def mean_direction(vectors: np.ndarray) -> np.ndarray:
    mean = vectors.mean(0)
    return mean / np.linalg.norm(mean)


def test_templates_are_averaged_in_the_embedding_space(encoder: ImageTextEncoder) -> None:
    texts, templates = ["a rabbit", "the sky"], ["{}", "a photo of {}", "{}, filmed"]
    expected = [
        mean_direction(encoder.embed_texts([template.format(text) for template in templates])) for text in texts
    ]
    np.testing.assert_allclose(embed_described(encoder, texts, templates), expected, atol=1e-6)
    assert (embed_described(encoder, texts) == encoder.embed_texts(texts)).all(), "to the bit, without templates"


@pytest.mark.parametrize(
    "text",
    ["dog " * 40, "one " + "x" * 300, "x" * 400, "\u72d7" * 90, " " * 50 + "dog " * 20 + " " * 50, "a\nb " * 30],
)
def test_a_long_text_is_read_to_its_end_in_parts(encoder: ImageTextEncoder, text: str) -> None:
    parts = parts_of(encoder, text)
    assert len(parts) > 1 and all(encoder.fits(part) for part in parts)
    assert "".join("".join(parts).split()) == "".join(text.split()), "in order, and nothing is lost"
    np.testing.assert_allclose(
        embed_described(encoder, [text])[0], mean_direction(encoder.embed_texts(parts)), atol=1e-6
    )


def test_the_end_of_a_long_text_counts(encoder: ImageTextEncoder) -> None:
    one, other = (f"{'a long description of many words ' * 4}{end}" for end in ("rabbit", "page of text"))
    assert (encoder.embed_texts([one]) == encoder.embed_texts([other])).all(), "the tokenizer cuts it off"
    assert (embed_described(encoder, [one]) != embed_described(encoder, [other])).any()


def test_short_texts_are_one_part(encoder: ImageTextEncoder) -> None:
    texts: Sequence[str] = ("", "x", "a rabbit")
    assert [parts_of(encoder, text) for text in texts] == [[text] for text in texts]
