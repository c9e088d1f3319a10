"""What a captioner asks of a model runtime."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

import numpy as np

from caption.provenance import Provenance
from caption.quality.base import Check
from curate.schema import FailureKind

SAMPLING_TEMPERATURE = 0.7
"""Of a request with a seed, where the backend's own temperature is 0."""
NO_FRAMES = np.zeros((0, 0, 0, 3), np.uint8)
"""Of a request to the language model alone."""


class UnusableModel(ValueError):
    """A model that cannot caption; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionRequest:
    """What a model is shown and asked.

    Attributes:
        frames: (T, H, W, 3) uint8 RGB in the order of time; `NO_FRAMES` where the language model alone is asked.
        prompt: Text after the frames.
        max_tokens: Limit of the text, in the model's tokens.
        times_s: When the frames are shown, seconds from the clip's start; for models that read times.
        schema: JSON schema that the text must follow, where the backend can constrain it; None: free text.
        seed: Of the sampling; a request with a seed is sampled also where the backend is greedy. None: as the
            backend's settings say.
        repetition_penalty: Instead of the backend's; None: the backend's.
    """

    frames: np.ndarray
    prompt: str
    max_tokens: int
    times_s: tuple[float, ...] = ()
    schema: Mapping[str, Any] | None = None
    seed: int | None = None
    repetition_penalty: float | None = None

    def sampling_temperature(self, default: float) -> float:
        """`default` is the backend's temperature; 0: the request is answered greedily."""
        return SAMPLING_TEMPERATURE if self.seed is not None and not default else default

    def sampling_seed(self, default: int) -> int:
        """31 bits, of the request's seed (None: `default`, the backend's), its prompt and its frames.

        Equal requests draw the same numbers. With one seed for all clips, all captions would begin with the same draw.
        """
        digest = hashlib.blake2b(digest_size=4)
        digest.update(f"{default if self.seed is None else self.seed}\n{self.prompt}\n{self.frames.shape}".encode())
        digest.update(np.ascontiguousarray(self.frames).data)
        return int.from_bytes(digest.digest()) >> 1


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionResult:
    """The text for one request.

    Attributes:
        text: Without control tokens, surrounding white space, and what a model writes while it thinks.
        finish_reason: `stop` if the model ended the text, `length` at the limit.
        num_prompt_tokens, num_output_tokens: Images, thinking and end token included; 0 where a server does not say.
        served_by: Model and revision that a server reports; empty where the provenance has all that is known.
    """

    text: str
    finish_reason: Literal["stop", "length"]
    num_prompt_tokens: int
    num_output_tokens: int
    served_by: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class FailedRequest:
    """One request without a text: refused, timed out, or answered with something unusable. The others have theirs.

    `curate.schema.RETRYABLE` lists the kinds for which another run of `reelpack caption` can succeed.
    """

    kind: FailureKind
    detail: str


class CaptionBackend(Protocol):
    """One model in one runtime. Constructors are cheap and the object can be pickled; `setup` loads the weights."""

    @property
    def provenance(self) -> Provenance:
        """What writes the captions. Needs no `setup`.

        Raises:
            MissingWeights: embedded weights are not there.
            ValueError: neither the hub nor its local cache knows the model.
        """
        ...

    @property
    def checks(self) -> Sequence[Check]:
        """Checks of this backend alone, set up with it; often none."""
        ...

    @property
    def num_in_flight(self) -> int:
        """Requests that are answered at the same time, each by a call of `caption` in a thread of its own. 0: one
        call at a time, with a batch."""
        ...

    def setup(self) -> None:
        """Load the model.

        Raises:
            MissingWeights: embedded weights are not there.
            ValueError: the model cannot be loaded; says why and what to do.
        """
        ...

    def caption(self, requests: Sequence[CaptionRequest]) -> list[CaptionResult | FailedRequest]:
        """One outcome per request, in order, independent of the other requests in the batch.

        Raises only what ends the job: one failed request is a `FailedRequest`.
        """
        ...


class BackendSettings(Protocol):
    """Settings of a backend: a frozen pydantic model. Its import loads no heavy library."""

    @property
    def kind(self) -> str:
        """Tells the members of the union apart."""
        ...

    @property
    def name(self) -> str:
        """Names the tables of the captions; part of a folder's name."""
        ...

    @property
    def caveat(self) -> str | None:
        """What a reader of the captions must know."""
        ...

    def pinned(self) -> Self:
        """The same with the revision that the model's name means now, for every worker and every rerun.

        Raises:
            MissingWeights: embedded weights are not there.
            ValueError: neither the hub nor its local cache knows the model.
        """
        ...

    def build(self) -> CaptionBackend: ...
