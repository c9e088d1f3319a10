"""What every caption backend keeps."""

import json
import pickle

import numpy as np

from caption.backends.base import BackendSettings, CaptionBackend, CaptionRequest, CaptionResult, FailedRequest
from caption.quality.base import Check
from tests.caption.quality.contract import check_settings

PROMPT = "describe this video"


def requests() -> list[CaptionRequest]:
    """Of two to four frames and different token limits."""
    rng = np.random.default_rng(0)
    return [
        CaptionRequest(
            frames=rng.integers(0, 256, (num, 6, 8, 3), np.uint8).repeat(8, 1).repeat(8, 2),
            prompt=PROMPT,
            max_tokens=max_tokens,
        )
        for num, max_tokens in ((2, 6), (4, 3), (3, 6))
    ]


def check_member(settings: BackendSettings) -> None:
    """The contract of a member, by its settings."""
    check_settings(settings.model_copy())  # type: ignore[attr-defined]
    assert settings.kind and settings.name and "/" not in settings.name
    assert settings.caveat is None or settings.caveat
    pinned = settings.pinned()
    assert pinned.pinned() == pinned
    backend: CaptionBackend = pickle.loads(pickle.dumps(settings.build()))

    provenance = backend.provenance
    assert provenance.backend == settings.kind
    assert provenance.model and provenance.revision and provenance.fingerprint
    assert pinned.build().provenance.fingerprint == provenance.fingerprint
    json.dumps([dict(provenance.parameters), dict(provenance.libraries)])

    backend.setup()
    backend.setup()
    assert all(isinstance(check, Check) for check in backend.checks)
    together = backend.caption(requests())
    assert together == [backend.caption([request])[0] for request in requests()]
    for request, outcome in zip(requests(), together, strict=True):
        if isinstance(outcome, FailedRequest):
            assert outcome.detail
            continue
        assert isinstance(outcome, CaptionResult)
        assert outcome.text == outcome.text.strip()
        assert 0 < outcome.num_output_tokens <= request.max_tokens
    assert backend.provenance == provenance
