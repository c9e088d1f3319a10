"""Captions composed from fields, without a model."""

import random

from caption.fields import CaptionFields

COMPOSER = "compose-v1"
"""Version of the wording."""
DROP_PROBABILITY = 0.3
"""Of each field of a variant."""


def compose(fields: CaptionFields, *, key: str, variant: int) -> str:
    """A paragraph of all fields; a variant leaves some out and moves others, by draws of (key, variant)."""
    draw = random.Random(f"{key}/{variant}")
    details = [fields.scene, fields.camera, fields.shot_size, fields.light, fields.style]
    said = [text for text in details if text]
    if variant:
        said = [text for text in said if draw.random() >= DROP_PROBABILITY]
        draw.shuffle(said)
    return " ".join(map(_sentence, (*fields.subjects, *fields.actions, *said)))


def short_of(fields: CaptionFields) -> str:
    """One sentence: the first action, or the first subject; empty without either."""
    return next((_sentence(text) for text in (*fields.actions, *fields.subjects)), "")


def _sentence(text: str) -> str:
    text = text.strip().rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."
