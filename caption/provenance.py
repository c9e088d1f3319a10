"""What writes captions: the value that a backend gives and every record stores."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """One model in one runtime, and how it decodes.

    Attributes:
        backend: `kind` of the backend's settings.
        model: Name of the model as configured.
        revision: Digest of the weights or commit of a hub id: what `model` meant on that day.
        parameters: Decoding parameters as applied, without the token limit, which is each request's. JSON values.
        seed: Of the sampling; None where decoding is greedy.
        libraries: Versions of the libraries that run the model, by name. For the reader: they are not compared.
        fingerprint: Digest of all that decides the text of a request. Equal fingerprints mean equal texts.
    """

    backend: str
    model: str
    revision: str
    fingerprint: str
    parameters: Mapping[str, object] = field(default_factory=dict)
    seed: int | None = None
    libraries: Mapping[str, str] = field(default_factory=dict)
