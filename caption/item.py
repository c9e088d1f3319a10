"""What goes into the caption stage and what comes out of it: clips to caption, their frames, requests, captions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from caption.backends.base import CaptionRequest
from caption.facts import NOTHING_MEASURED, Facts
from caption.frames import WindowFrames
from caption.record import Attempt, CaptionRecord
from curate.dataset.captions import CaptionLevel
from curate.schema import Failure


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionItem:
    """A clip to caption: `size` bytes from `offset` of `shard`, with their digest; `kind` is `video` or `image`.

    Attributes:
        facts: Measured of the clip.
        original: The user's own text, sanitized; None: there is none.
        levels: Those to write; None: all.
        fields: The stored text of level `fields`, where it is not to be written.
        earlier: Level → the attempts that earlier runs made. The next ones apply the same remedies, see
            `Change.resumed`.
    """

    clip_id: str
    shard: str
    offset: int
    size: int
    kind: str
    digest: str | None = None
    facts: Facts = NOTHING_MEASURED
    original: str | None = None
    levels: tuple[CaptionLevel, ...] | None = None
    fields: str | None = None
    earlier: Mapping[CaptionLevel, tuple[Attempt, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DecodedItem:
    """An item with its frames, by windows; `decode_again` gives those of another attempt."""

    item: CaptionItem
    digest: str
    windows: Sequence[WindowFrames]
    decode_again: Callable[[int], Sequence[WindowFrames]]

    @property
    def num_bytes(self) -> int:
        return sum(window.rgb.nbytes for window in self.windows)

    @property
    def fallback(self) -> str | None:
        """Why PyAV read the frames instead of the chosen reader; None where that did not happen."""
        return self.windows[0].fallback

    @cached_property
    def frames(self) -> np.ndarray:
        """Those of all windows, (T, H, W, 3) uint8 RGB; of one window: its own array, not a copy."""
        arrays = [window.rgb for window in self.windows]
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


@dataclass(frozen=True, kw_only=True, slots=True)
class Captioned:
    """What a clip got: records, and why levels have none.

    Attributes:
        waited_s: Seconds that the model waited for the frames of this clip.
        asked_s: Seconds that the model worked on it.
        num_prompt_tokens, num_output_tokens: Of all its requests, those of attempts and windows too.
        fallback: Why PyAV read its frames instead of the chosen reader; None where that did not happen.
    """

    records: tuple[CaptionRecord, ...]
    failures: tuple[Failure, ...] = ()
    waited_s: float = 0.0
    asked_s: float = 0.0
    num_prompt_tokens: int = 0
    num_output_tokens: int = 0
    fallback: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """A request, to the model or to the second model."""

    request: CaptionRequest
    is_for_fallback: bool = False
