"""Texts to embeddings: by prompt templates whose embeddings are averaged, and in parts where a text is too long.

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision" (arXiv:2103.00020),
section 3.1.4: the embeddings of a class under several templates are averaged in the embedding space. Departure: a text
that is longer than the encoder's context is embedded in parts, which are averaged as well; CLIP cuts it off.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from curate.encoders.base import ImageTextEncoder

Template = Annotated[str, Field(pattern=r"\{\}")]
"""A sentence about a description, which replaces `{}`."""
PLAIN = ("{}",)
"""The template of a text as it is."""


def embed_described(encoder: ImageTextEncoder, texts: Sequence[str], templates: Sequence[str] = PLAIN) -> np.ndarray:
    """(M, d) float32 of unit length: per text the mean direction under all templates.

    Args:
        encoder: that is set up.
        texts: M of them, of any length.
        templates: each with a `{}`, where a text is put.
    """
    filled = [[part for template in templates for part in parts_of(encoder, fill(template, text))] for text in texts]
    embedded = encoder.embed_texts([one for prompts in filled for one in prompts])
    rows = np.split(embedded, np.cumsum([len(prompts) for prompts in filled])[:-1])
    return np.stack([_mean_direction(vectors) for vectors in rows])


def fill(template: str, text: str) -> str:
    return template.replace("{}", text)


def parts_of(encoder: ImageTextEncoder, text: str) -> list[str]:
    """The text, or halves, quarters … of its words that the encoder reads whole."""
    if len(text) < 2 or encoder.fits(text):
        return [text]
    middle = len(text) // 2
    spaces = [position for position, character in enumerate(text) if character.isspace()]
    cut = min(spaces, key=lambda position: abs(position - middle), default=middle)
    halves = [half.strip() for half in (text[:cut], text[cut:])]
    if not all(halves):  # one word with space around it
        halves = [text.strip()[:middle], text.strip()[middle:]]
    return [part for half in halves if half for part in parts_of(encoder, half)]


def _mean_direction(vectors: np.ndarray) -> np.ndarray:
    """(n, d) unit vectors to (d,) of unit length; a single one as it is."""
    if len(vectors) == 1:
        return vectors[0]
    mean = vectors.mean(axis=0, dtype=np.float64)
    return (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)
