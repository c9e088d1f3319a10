"""Captions with known faults, for `benchmarks.caption_quality`: written ones of `caption_texts.yaml`, and faults that
are put into its good captions."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from caption.backends.base import NO_FRAMES
from caption.facts import Facts
from caption.fields import CaptionFields
from caption.llava.corpus import load_shots
from caption.prompts import PROMPT_SETS
from caption.provenance import Provenance
from caption.quality.base import Evidence, RecordKey
from caption.record import CaptionRecord
from curate.dataset.captions import CaptionLevel

TEXTS = Path(__file__).with_name("caption_texts.yaml")
CONTROL_TOKENS = ("</s>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<pad>", "<image>", "<|endoftext|>", "[/INST]")
NUM_COPIES = 20
"""Clips that get the same caption."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A caption, what is known of its clip, and the reason code of its fault; None: it is good."""

    code: str | None
    record: CaptionRecord
    evidence: Evidence


def case(code: str | None, said: str | Mapping[str, Any], finish_reason: str = "stop", number: int = 0) -> Case:
    """A case from an entry of `caption_texts.yaml`."""
    entry: Mapping[str, Any] = {"text": said} if isinstance(said, str) else said
    level: CaptionLevel = entry.get("level", "dense")
    is_image = entry.get("kind") == "image"
    camera = tuple(entry["camera"]) if "camera" in entry else None
    facts = Facts(kind="image" if is_image else "video", camera=camera)
    fields = CaptionFields(subjects=("what is shown",), visible_text=tuple(entry.get("visible", ()))).to_json()
    known = {"facts": facts.sentence(), "original": entry.get("original", ""), "fields": fields}
    prompts = PROMPT_SETS["fields-v1"]
    prompt = prompts.of(level if level in prompts.levels else "dense")
    record = CaptionRecord(
        clip_id=f"{code or 'good'}-{number}",
        media_digest="0",
        level=level,
        text=entry["text"],
        finish_reason=finish_reason,
        provenance=Provenance(backend="test", model="test", revision="1", fingerprint="1"),
        prompt_id=prompt.id,
        prompt_hash=prompt.digest,
        prompt_text=prompt.text(is_image=is_image, known=known),
        frame_indices=(),
        frame_times_s=(),
        max_tokens=128,
        num_prompt_tokens=1,
        num_output_tokens=1,
    )
    evidence = Evidence(frames=NO_FRAMES, facts=facts, original=entry.get("original"), fields=fields)
    return Case(code=code, record=record, evidence=evidence)


def good(half: str) -> list[Case]:
    """Captions that no check may fault: `seen`, `held_out`."""
    return [case(None, entry, number=number) for number, entry in enumerate(_texts()["good"][half])]


def good_of_film() -> list[Case]:
    """What people wrote of the shots that the embedded captioner was trained on."""
    shots = load_shots()
    said = [("short", text) for shot in shots for text in shot.short] + [("dense", shot.dense) for shot in shots]
    entries = ({"level": level, "text": text} for level, text in dict.fromkeys(said))
    return [case(None, entry, number=number) for number, entry in enumerate(entries)]


def written(half: str) -> list[Case]:
    """Captions with one written fault each."""
    said = [(code, entry) for code, entries in _texts().items() if code != "good" for entry in entries[half]]
    return [case(CODES.get(code, code), entry, number=number) for number, (code, entry) in enumerate(said)]


def injected(half: str, seed: int = 0) -> list[Case]:
    """The good captions with faults put in. A fault can bring others with it: a loop has no full stop."""
    return list(_injected(_texts()["good"][half], random.Random(seed)))


CODES = {"loop": "repetition", "truncated": "unfinished"}
"""Names in `caption_texts.yaml` whose reason code is another."""


@cache
def _texts() -> Mapping[str, Any]:
    return yaml.safe_load(TEXTS.read_text())


def _injected(entries: Sequence[Mapping[str, Any]], rng: random.Random) -> Iterator[Case]:
    dense = [entry for entry in entries if entry.get("level") != "short"]
    for number, entry in enumerate(entries):
        words = entry["text"].split()
        cut = " ".join(words[: rng.randrange(1, len(words))])
        yield case("truncated", {**entry, "text": cut}, finish_reason="length", number=number)
        token = rng.choice(CONTROL_TOKENS)
        leaked = f"{token} {entry['text']}" if rng.random() < 0.3 else f"{entry['text']}{token}"
        yield case("leak", {**entry, "text": leaked}, number=number)
        tail = " ".join(words[-rng.randint(1, min(8, len(words))) :]).strip('".,;')
        yield case(
            "repetition", {**entry, "text": f"{entry['text']} {' '.join([tail] * rng.randint(5, 20))}"}, number=number
        )
        yield case("too_short", {**entry, "text": words[-1]}, number=number)
        others = [other["text"] for other in rng.sample(dense, len(dense))]
        long = " ".join(others)
        text = long if entry.get("level") == "short" else long + " " + " ".join(reversed(" ".join(others).split()))
        yield case("too_long", {**entry, "text": text}, number=number)
        yield from _damaged(entry["text"], number, rng)


def _damaged(text: str, number: int, rng: random.Random) -> Iterator[Case]:
    """An answer of level `fields` that has another form."""
    whole = CaptionFields(subjects=(text[:20],), actions=(text,), scene=text[-30:], camera="static").to_json()
    yield case("no_fields", {"level": "fields", "text": text.replace("{", "")}, number=number)
    broken = rng.choice(
        (
            whole[: rng.randrange(len(whole) // 2, len(whole) - 1)],
            whole.replace('"scene":', '"scene" '),
            whole.replace('","camera"', '" "camera"'),
        )
    )
    yield case("broken_fields", {"level": "fields", "text": broken}, number=number)


def swapped(clips: Sequence[tuple[np.ndarray, str]]) -> tuple[list[Case], list[Case]]:
    """Clips with their own captions, and each with the caption of the next one.

    Args:
        clips: frames (T, H, W, 3) uint8 RGB, and the caption of each.
    """
    frames = [shown for shown, _ in clips]
    own = [case(None, {"level": "short", "text": text}, number=number) for number, (_, text) in enumerate(clips)]
    other = [
        case("caption_match", {"level": "short", "text": text}, number=number)
        for number, (_, text) in enumerate(clips)
    ]
    return _shown(own, frames), _shown(other, frames[1:] + frames[:1])


def _shown(cases: Sequence[Case], frames: Sequence[np.ndarray]) -> list[Case]:
    return [
        replace(one, evidence=replace(one.evidence, frames=shown)) for one, shown in zip(cases, frames, strict=True)
    ]


def repeated(half: str, seed: int = 0) -> tuple[pa.Table, dict[str, str], set[RecordKey]]:
    """A corpus in which a caption stands on many clips, word by word or with one word changed: its records, groups of
    duplicates, and the keys that are to be found. The same on duplicates is no fault, nor a plain short caption."""
    rng = random.Random(seed)
    rows = [(one.record.clip_id, one.record.level, one.record.text) for one in (*good(half), *good_of_film())]
    rows = [(f"{clip_id}-{number}", level, text) for number, (clip_id, level, text) in enumerate(rows)]
    long = [text for _, level, text in rows if level == "dense" and len(text.split()) >= 30]
    faulty, same, spared = rng.sample(long, 3)
    rows += [(f"copy-{number}", "dense", faulty) for number in range(NUM_COPIES)]
    rows += [(f"near-{number}", "dense", _with_one_word_changed(same, rng)) for number in range(NUM_COPIES)]
    rows += [(f"duplicate-{number}", "dense", spared) for number in range(NUM_COPIES)]
    rows += [(f"plain-{number}", "short", "A man walks down a street.") for number in range(NUM_COPIES)]
    table = pa.Table.from_pylist(
        [{"clip_id": clip_id, "level": level, "variant": 0, "text": text} for clip_id, level, text in rows]
    )
    to_find: set[RecordKey] = {
        (clip_id, level, 0)
        for clip_id, level, text in rows
        if level == "dense" and (clip_id.startswith(("copy", "near")) or text in (faulty, same))
    }
    return table, {f"duplicate-{number}": "one" for number in range(NUM_COPIES)}, to_find


def _with_one_word_changed(text: str, rng: random.Random) -> str:
    words = text.split()
    words[rng.randrange(len(words))] = rng.choice(("red", "tall", "wooden", "quiet", "round"))
    return " ".join(words)
