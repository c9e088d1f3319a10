"""The same caption on clips that are no duplicates of each other, over the whole dataset."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from caption.quality.base import Check, RecordKey, Remedies
from caption.quality.prose import PROSE
from caption.quality.words import words
from caption.record import Finding, Remedy
from curate.dataset.captions import CaptionStatus
from curate.dedup.components import union

SHINGLE_WORDS = 3
NUM_BANDS, ROWS_PER_BAND = 16, 4
"""Of the MinHash: two texts whose shingles overlap by 0.85 share a band with probability 0.9999, by 0.5 with 0.64;
what shares a band is compared (Broder 1997; Leskovec et al., Mining of Massive Datasets, section 3.4)."""


class RepeatedConfig(BaseModel):
    """Finds a caption that many different clips have, word by word or nearly so. Plain short ones may repeat."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_clips: int = Field(5, ge=1, description="clips that may share a caption; duplicates count once")
    min_words: int = Field(12, ge=1, description="shorter captions may be shared by any number of clips")
    min_overlap: float = Field(
        0.85, gt=0, le=1, description="share of common runs of 3 words from which two captions are the same; 1: equal"
    )

    def build(self) -> Check:
        return RepeatedCheck(self)


class RepeatedCheck(Check):
    """`repeated_caption`: other frames are shown; another attempt is sampled in any case."""

    reads: ClassVar = "corpus"
    remedies: ClassVar[Remedies] = {"repeated_caption": (Remedy.FRAMES,)}

    def __init__(self, config: RepeatedConfig) -> None:
        self.config = config

    def of_corpus(self, records: pa.Table, groups: Mapping[str, str]) -> Mapping[RecordKey, Sequence[Finding]]:
        found: dict[RecordKey, Sequence[Finding]] = {}
        for level in PROSE:
            for keys in self._same(_texts(records, level)):
                num_clips = len({groups.get(clip_id, clip_id) for clip_id, _, _ in keys})
                if num_clips > self.config.max_clips:
                    detail = f"the same text on clips that are no duplicates (clips {num_clips})"
                    finding = Finding(
                        code="repeated_caption",
                        status=CaptionStatus.REJECTED,
                        detail=detail,
                        remedy=Remedy.FRAMES,
                    )
                    found |= dict.fromkeys(keys, (finding,))
        return found

    def _same(self, texts: Iterable[tuple[RecordKey, str]]) -> Iterator[list[RecordKey]]:
        """Records whose texts are the same, together."""
        keys_of: dict[str, list[RecordKey]] = defaultdict(list)
        for key, text in texts:
            if len(text_words := words(text)) >= self.config.min_words:
                keys_of[" ".join(text_words)].append(key)
        names = union(self._near(list(keys_of))) if self.config.min_overlap < 1 else {}
        together: dict[str, list[RecordKey]] = defaultdict(list)
        for text, keys in keys_of.items():
            together[names.get(text, text)] += keys
        yield from together.values()

    def _near(self, texts: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Pairs of nearly equal texts: each with the first one of a band that it overlaps with."""
        firsts: dict[bytes, str] = {}
        for text in texts:
            shingles = _shingles(text)
            signature = _signature(shingles)
            for band in range(NUM_BANDS):
                name = bytes([band]) + signature[band * ROWS_PER_BAND : (band + 1) * ROWS_PER_BAND].tobytes()
                first = firsts.setdefault(name, text)
                if first != text and _overlap(shingles, _shingles(first)) >= self.config.min_overlap:
                    yield first, text


def _texts(records: pa.Table, level: str) -> list[tuple[RecordKey, str]]:
    rows = records.select(["clip_id", "level", "variant", "text"]).to_pylist()
    return [((row["clip_id"], level, row["variant"]), row["text"]) for row in rows if row["level"] == level]


def _shingles(text: str) -> frozenset[str]:
    text_words = text.split()
    return frozenset(
        " ".join(text_words[start : start + SHINGLE_WORDS]) for start in range(len(text_words) - SHINGLE_WORDS + 1)
    )


def _overlap(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard similarity."""
    return len(one & other) / max(1, len(one | other))


def _signature(shingles: frozenset[str]) -> np.ndarray:
    """(NUM_BANDS * ROWS_PER_BAND,) uint64 MinHash: the least hash of the shingles under each permutation."""
    digests = b"".join(blake2b(shingle.encode(), digest_size=8).digest() for shingle in sorted(shingles))
    hashes = np.frombuffer(digests or bytes(8), "<u8")
    return (hashes[:, None] * MULTIPLIERS + ADDENDS).min(0)


_RNG = np.random.default_rng(0)
MULTIPLIERS = _RNG.integers(0, 2**63, NUM_BANDS * ROWS_PER_BAND, np.uint64) * 2 + 1
ADDENDS = _RNG.integers(0, 2**63, NUM_BANDS * ROWS_PER_BAND, np.uint64)
