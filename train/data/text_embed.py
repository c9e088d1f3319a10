"""Stage: captions to the token states that condition the model, for every text that a clip has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.encoders.text import TextEncoder
from curate.encoders.text_config import TextEncoderConfig
from curate.schema import Failure, FailureKind

STEP = "embed_text"


@dataclass(frozen=True, kw_only=True, slots=True)
class TextEmbedItem:
    """The texts of a clip by name ("short", "dense", "dense.1"); at least one."""

    clip_id: str
    captions: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class TextEmbedded:
    """Token states (n, D_text) float16 of each text, by name; `num_uncut` has the tokens that it would have without a
    limit."""

    clip_id: str
    states: Mapping[str, np.ndarray]
    num_uncut: Mapping[str, int]


class TextEmbedStage:
    """Embeds the captions of many clips in one call of the encoder."""

    step = STEP

    def __init__(self, config: TextEncoderConfig) -> None:
        self.config = config
        self._encoder: TextEncoder | None = None

    def setup(self) -> None:
        self._encoder = TextEncoder(self.config)
        self._encoder.setup()

    def fingerprint_record(self) -> dict[str, Any]:
        """What names the embeddings, and what is needed to embed a prompt the same way. Loads the encoder."""
        encoder = TextEncoder(self.config)
        encoder.setup()
        return {
            "fingerprint": encoder.fingerprint[:16],
            "encoder": self.config.model,
            "encoder_fingerprint": encoder.fingerprint,
            "config": self.config.model_dump(mode="json"),
            "libraries": encoder.libraries,
            "dim": encoder.dim,
            "max_tokens": self.config.max_tokens,
            "dtype": "float16",
        }

    def process(self, items: Sequence[TextEmbedItem]) -> list[TextEmbedded | Failure]:
        assert self._encoder is not None, "setup() comes first"
        keys = [(i, name) for i, item in enumerate(items) for name in item.captions]
        states = self._encoder.encode([items[i].captions[name] for i, name in keys])
        counts = [len(state) for state in states]
        full = [n for n, count in enumerate(counts) if count >= self.config.max_tokens]
        uncut = self._encoder.count_tokens([items[i].captions[name] for i, name in (keys[n] for n in full)])
        for n, count in zip(full, uncut, strict=True):
            counts[n] = count
        by_item: list[dict[str, np.ndarray]] = [{} for _ in items]
        uncut_by_item: list[dict[str, int]] = [{} for _ in items]
        for (i, name), state, count in zip(keys, states, counts, strict=True):
            by_item[i][name], uncut_by_item[i][name] = state, count
        of_items = zip(items, by_item, uncut_by_item, strict=True)
        return [_outcome(item.clip_id, of_item, num_uncut) for item, of_item, num_uncut in of_items]

    def give_up(self, item: TextEmbedItem, kind: FailureKind, detail: str, attempts: int) -> Failure:
        return Failure(subject=item.clip_id, step=STEP, kind=kind, detail=detail, attempts=attempts)


def _outcome(clip_id: str, states: Mapping[str, np.ndarray], num_uncut: Mapping[str, int]) -> TextEmbedded | Failure:
    bad = [name for name, state in states.items() if not len(state) or not np.isfinite(state).all()]
    if bad or not states:
        detail = f"{', '.join(bad)}: the encoder gave no finite token states" if bad else "the clip has no caption"
        return Failure(subject=clip_id, step=STEP, kind=FailureKind.MODEL, detail=detail)
    return TextEmbedded(clip_id=clip_id, states=states, num_uncut=num_uncut)
