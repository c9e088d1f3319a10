"""What every check of captions keeps."""

import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError

from caption.provenance import Provenance
from caption.quality.base import Check, Evidence
from caption.record import CaptionRecord, Finding
from curate.dataset.captions import CaptionStatus

GOOD = CaptionRecord(
    clip_id="clip",
    media_digest="0",
    level="short",
    text="A red car turns left at a crossing.",
    finish_reason="stop",
    provenance=Provenance(backend="test", model="test", revision="1", fingerprint="1"),
    prompt_id="plain-v1/short",
    prompt_hash="0",
    prompt_text="Describe this video briefly.",
    frame_indices=(0, 3),
    frame_times_s=(0.0, 0.25),
    max_tokens=32,
    num_prompt_tokens=12,
    num_output_tokens=9,
)
RECORDS = [
    GOOD,
    replace(GOOD, text="", num_output_tokens=1),
    replace(GOOD, text="A red", finish_reason="length"),
    replace(GOOD, text="I AM SORRY, BUT I CANNOT SEE THE VIDEO. 😀 <image>\n\x00"),
    replace(GOOD, text="word " * 500),
]
RNG = np.random.default_rng(0)
BLOCKS = RNG.integers(0, 256, (2, 6, 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
"""(2, 48, 64, 3) uint8: something to describe."""
CLIPS = [BLOCKS, np.zeros_like(BLOCKS), np.full((1, 1, 2, 3), 255, np.uint8)]


def check_settings(settings: BaseModel) -> None:
    assert settings.model_config.get("extra") == "forbid" and settings.model_config.get("frozen")
    assert type(settings).__doc__
    assert type(settings).model_validate_json(settings.model_dump_json()) == settings
    for name, field in type(settings).model_fields.items():
        assert field.description or name == "kind", f"{name} has no description"
    with pytest.raises(ValidationError):
        type(settings).model_validate({"no_such_key": 1})


def check_member(settings: BaseModel) -> None:
    """The contract of a member, by its settings."""
    check_settings(settings)
    check: Check = pickle.loads(pickle.dumps(settings.build()))
    check.setup()
    for frames in CLIPS:
        before = frames.copy()
        seen = _plain(check.of_frames(frames))
        assert _plain(check.of_frames(frames)) == seen
        for record in RECORDS:
            found = _plain(check.of_caption(record, Evidence(frames=frames)))
            assert _plain(check.of_caption(record, Evidence(frames=frames))) == found
        np.testing.assert_array_equal(frames, before)
    assert not [*check.of_frames(BLOCKS), *check.of_caption(GOOD, Evidence(frames=BLOCKS))], (
        "a good caption of a good clip is faulted"
    )


def _plain(findings: object) -> list[Finding]:
    found: list[Finding] = list(findings)  # type: ignore[call-overload]
    for finding in found:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", finding.code)
        assert isinstance(finding.status, CaptionStatus)
        assert finding.detail
    return found
