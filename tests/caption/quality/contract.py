"""What every check of captions keeps."""

import pickle
import re
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from pydantic import BaseModel, ValidationError

from caption.facts import Facts
from caption.provenance import Provenance
from caption.quality.base import Check, Evidence
from caption.record import CaptionRecord, Finding, Remedy
from curate.dataset.captions import CaptionStatus
from tests.support.caption_faults import good

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
    replace(
        GOOD, level="dense", text="The camera pans left. The scene cuts to Rome in 1970. 猫が座っています。", attempt=2
    ),
    replace(GOOD, level="fields", text='{"scene": "a street", "camera": "static"'),
    replace(GOOD, level="human", text="whatever"),
]
FACTS = Facts(camera=("pan right",))
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
        before, evidence = frames.copy(), Evidence(frames=frames, facts=FACTS)
        seen = _plain(check, check.of_frames(frames))
        assert _plain(check, check.of_frames(frames)) == seen
        for record in RECORDS:
            found = _plain(check, check.of_caption(record, evidence))
            assert _plain(check, check.of_caption(record, evidence)) == found
        np.testing.assert_array_equal(frames, before)
    _check_corpus(check)
    assert not [*check.of_frames(BLOCKS), *check.of_caption(GOOD, Evidence(frames=BLOCKS))], (
        "a good caption of a good clip is faulted"
    )
    for case in (*good("seen"), *good("held_out")):
        assert not list(check.of_caption(case.record, case.evidence)), f"faulted: {case.record.text}"


def _check_corpus(check: Check) -> None:
    """Findings of a corpus do not depend on the order of its rows, and come with keys of these rows."""
    rows = [
        {"clip_id": f"clip{number}", "level": level, "variant": 0, "text": record.text}
        for number, record in enumerate(RECORDS * 20)
        for level in ("short", "dense")
    ]
    found, backwards = (check.of_corpus(pa.Table.from_pylist(some), {"clip0": "a"}) for some in (rows, rows[::-1]))
    assert {key: list(one) for key, one in found.items()} == {key: list(one) for key, one in backwards.items()}
    assert found.keys() <= {(row["clip_id"], row["level"], row["variant"]) for row in rows}
    assert check.reads == "corpus" or not found
    for findings in found.values():
        _plain(check, findings)


def _plain(check: Check, findings: Iterable[Finding]) -> list[Finding]:
    found = list(findings)
    for finding in found:
        assert finding.remedy is None or finding.remedy in check.remedies[finding.code]
        assert finding.code in check.remedies, "a code that the check does not declare"
        assert bool(finding.instruction) or finding.remedy != Remedy.PROMPT, "nothing is told"
        assert re.fullmatch(r"[a-z][a-z0-9_]*", finding.code)
        assert isinstance(finding.status, CaptionStatus)
        assert finding.detail
    return found
