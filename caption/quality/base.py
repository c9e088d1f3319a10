"""What a check of captions is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from caption.facts import NOTHING_MEASURED, Facts
from caption.record import CaptionRecord, Finding, Remedy

RecordKey = tuple[str, str, int]
"""`clip_id`, `level`, `variant` of a record."""

Remedies = Mapping[str, tuple[Remedy, ...]]
"""Reason code → the remedies of its findings, in the order of the attempts; empty: there is none."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a caption is checked against.

    Attributes:
        frames: (T, H, W, 3) uint8 RGB, those that the model has seen.
        facts: Measured of the clip.
        original: The user's own text of the clip; None: there is none.
        fields: The text of level `fields` that the prompt gave; None: it gave none.
    """

    frames: np.ndarray
    facts: Facts = NOTHING_MEASURED
    original: str | None = None
    fields: str | None = None


class Check:
    """A check overrides the hook for what it looks at. Constructors are cheap and the object can be pickled.

    Attributes:
        reads: `frames`: findings need the clip decoded. `text`: the stored record and the facts are enough, so that
            the findings of stored captions can be renewed. `corpus`: all captions of a dataset.
        remedies: Of every reason code that it gives.
    """

    reads: ClassVar[Literal["frames", "text", "corpus"]] = "text"
    remedies: ClassVar[Remedies] = MappingProxyType({})

    def setup(self) -> None:
        """Load what the check needs; called once per worker, before the first clip."""

    def of_frames(self, frames: np.ndarray) -> Iterable[Finding]:
        """Findings before the model is asked. It is not asked where the status of one is not usable.

        Args:
            frames: (T, H, W, 3) uint8 RGB, those that the model would see.
        """
        return ()

    def of_caption(self, record: CaptionRecord, evidence: Evidence) -> Iterable[Finding]:
        """Findings after the model has answered. A finding with a remedy leads to another attempt, see
        `caption.max_attempts`.

        Args:
            record: the caption without the findings of this hook.
            evidence: what it is checked against.
        """
        return ()

    def of_corpus(self, records: pa.Table, groups: Mapping[str, str]) -> Mapping[RecordKey, Sequence[Finding]]:
        """Findings among all captions of a dataset, after the last clip.

        Args:
            records: rows of `CAPTIONS` whose text is used.
            groups: clip id → group of duplicates, for clips that have duplicates.
        """
        return {}
