"""What a captioner asks of a model runtime, whichever it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np


class UnusableModel(ValueError):
    """A model that cannot caption; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionRequest:
    """Frames (T, H, W, 3) uint8 RGB in the order of time, a prompt, and the most tokens that may be written."""

    frames: np.ndarray
    prompt: str
    max_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionResult:
    """What the model wrote: `stop` if it ended by itself, `length` if it met `max_tokens`, `not_asked`."""

    text: str
    finish_reason: Literal["stop", "length", "not_asked"]
    num_prompt_tokens: int
    num_output_tokens: int


class CaptionBackend(Protocol):
    """One model in one runtime. Constructors are cheap; `setup` loads the weights."""

    @property
    def weights_id(self) -> str:
        """Digest of the weights, or the revision of a hub id. Needs no `setup`."""
        ...

    @property
    def libraries(self) -> dict[str, str]:
        """Versions of the libraries that decide what the model writes, by name."""
        ...

    @property
    def sampling(self) -> dict[str, object]:
        """Generation settings as applied, but for the token limit, which is each request's."""
        ...

    def setup(self) -> None: ...

    def unsure(self, clips: Sequence[np.ndarray]) -> list[str | None]:
        """Why the model would not know what the frames (T, H, W, 3) of each clip show; None where it may write."""
        ...

    def caption(self, requests: Sequence[CaptionRequest]) -> list[CaptionResult]:
        """One result per request, in order, the same whichever requests share its batch."""
        ...
