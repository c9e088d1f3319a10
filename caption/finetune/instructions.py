"""Questions and answers about clips, made from their fields by a language model that sees no frames (LLaVA section 3:
conversation, detailed description, complex reasoning). The fields are the only evidence."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from caption.backends.base import NO_FRAMES, CaptionBackend, CaptionRequest, CaptionResult, FailedRequest
from caption.fields import MAX_STARTS, THOUGHTS
from caption.finetune.config import InstructionsConfig, Kind
from caption.plain_text import one_line, visible
from curate.daemon_threads import DaemonPool
from curate.schema import content_digest

FILE = "instructions.jsonl"

WANTED: Mapping[Kind, str] = MappingProxyType(
    {
        "conversation": "Write three short questions that a viewer could ask about what is seen, such as what "
        "something is, what happens, or how something looks, each with a direct answer of one sentence.",
        "detail": "Write one request for a detailed description of the clip, and as its answer a paragraph that says "
        "everything that the notes say, in the order of time.",
        "reasoning": "Write one question that needs a conclusion from what is seen, such as why something happens or "
        "what it suggests, and an answer that names what it is concluded from.",
    }
)
PROMPT = """These notes are all that is known about a video clip:
{fields}

{wanted} Use nothing but the notes. Ask only what the notes answer with certainty. Write as somebody who watches the \
clip, and do not mention notes. Answer with one JSON object and nothing else: \
{{"turns": [{{"question": "...", "answer": "..."}}]}}"""
_TURN = {
    "type": "object",
    "properties": {"question": {"type": "string"}, "answer": {"type": "string"}},
    "required": ["question", "answer"],
    "additionalProperties": False,
}
SCHEMA: Mapping[str, Any] = MappingProxyType(
    {
        "type": "object",
        "properties": {"turns": {"type": "array", "items": _TURN}},
        "required": ["turns"],
        "additionalProperties": False,
    }
)
NAMES_SOURCE = re.compile(
    r"\b(notes?|fields?|json|metadata|captions?|not (?:mentioned|specified|provided|stated|given))\b", re.IGNORECASE
)
"""What an answer about a clip does not say: it is about the notes, and not about what is seen."""
WORD = re.compile(r"[^\W\d_]{3,}")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
STOPWORDS = frozenset(
    ("the", "and", "are", "was", "were", "for", "with", "that", "this", "what", "who", "how", "why", "which", "where",
     "when", "does", "there", "from", "have", "has", "into", "its", "his", "her", "their", "video", "clip", "scene",
     "camera", "shot", "show", "shown", "seen", "see", "look", "can")
)  # fmt: skip
"""Without the plural's s, as `_words` gives words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """A question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Instructions:
    """What a model wrote about a clip.

    Attributes:
        key: Digest of what it was written from: fields, wording and model.
        turns: Those that pass the checks.
        rejected: Reason code → turns that do not; `unreadable`: the text has none.
    """

    clip_id: str
    kind: Kind
    key: str
    turns: tuple[Turn, ...]
    rejected: Mapping[str, int]


def make_instructions(
    fields: Mapping[str, str],
    config: InstructionsConfig,
    backend: CaptionBackend,
    out: Path,
    on_done: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Instructions], list[FailedRequest]]:
    """Instructions for clips; OUT/instructions.jsonl has a line per clip and kind. What it has already is not asked
    again, and what failed is.

    Args:
        fields: clip id → text of level `fields`, a JSON object.
        config: which kinds, and how long.
        backend: set up here where anything is to be asked.
        out: folder of the run.
        on_done: called with the numbers of answered and of all requests.

    Returns:
        Those of the given clips in order, and the failures of this run.
    """
    fingerprint = backend.provenance.fingerprint
    wanted = {
        (clip_id, kind): content_digest("instructions", fingerprint, kind, WANTED[kind], PROMPT, text)
        for clip_id, text in sorted(fields.items())
        for kind in config.kinds
    }
    found = {
        (one.clip_id, one.kind): one for one in read_instructions(out / FILE)
        if wanted.get((one.clip_id, one.kind)) == one.key
    }  # fmt: skip
    todo = iter([asked for asked in wanted if asked not in found])
    failures: list[FailedRequest] = []
    if len(found) < len(wanted):
        backend.setup()
    _end_line(out / FILE)
    while batch := list(islice(todo, config.batch_size)):
        requests = [
            CaptionRequest(
                frames=NO_FRAMES,
                prompt=PROMPT.format(fields=fields[clip_id], wanted=WANTED[kind]),
                max_tokens=config.max_tokens,
                schema=SCHEMA,
            )
            for clip_id, kind in batch
        ]
        made = []
        for (clip_id, kind), result in zip(batch, _answers(backend, requests), strict=True):
            if isinstance(result, FailedRequest):
                failures.append(result)
                continue
            turns, rejected = checked(result.text, fields[clip_id])
            key = wanted[clip_id, kind]
            made.append(Instructions(clip_id=clip_id, kind=kind, key=key, turns=turns, rejected=rejected))
        with (out / FILE).open("a") as file:
            file.writelines(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in made)
        found |= {(one.clip_id, one.kind): one for one in made}
        on_done(len(found), len(wanted))
    return [found[asked] for asked in wanted if asked in found], failures


def checked(text: str, fields: str) -> tuple[tuple[Turn, ...], dict[str, int]]:
    """The turns in a model's text that are about these fields, and how many are not, by reason code."""
    read = list(_turns(text))
    known = _words(" ".join(_values(json.loads(fields))))
    numbers = set(NUMBER.findall(fields))
    kept: dict[str, Turn] = {}
    rejected = Counter[str]() if read else Counter({"unreadable": 1})
    for turn in read:
        if reason := _fault(turn, known, numbers, kept):
            rejected[reason] += 1
        else:
            kept[turn.question.lower()] = turn
    return tuple(kept.values()), dict(rejected)


def _fault(turn: Turn, known: set[str], numbers: set[str], kept: Mapping[str, Turn]) -> str | None:
    """Why a turn is not used."""
    said = f"{turn.question} {turn.answer}"
    if not turn.question or not turn.answer:
        return "empty"
    if turn.question.lower() in kept:
        return "repeated"
    if NAMES_SOURCE.search(said):
        return "names_source"
    if not known & _words(turn.answer):
        return "not_about_fields"
    if set(NUMBER.findall(said)) - numbers:
        return "unknown_number"
    return None


def read_instructions(path: Path) -> list[Instructions]:
    """The lines of a file in order; one that a killed run left unfinished is left out."""
    found = []
    for line in path.read_text().splitlines(keepends=True) if path.exists() else ():
        if line.endswith("\n"):
            row = json.loads(line)
            found.append(Instructions(**row | {"turns": tuple(Turn(**turn) for turn in row["turns"])}))
    return found


def _end_line(path: Path) -> None:
    """Cut off what a killed run left unfinished."""
    if path.exists() and not (data := path.read_bytes()).endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)


def _answers(backend: CaptionBackend, requests: Sequence[CaptionRequest]) -> Sequence[CaptionResult | FailedRequest]:
    if not backend.num_in_flight:
        return backend.caption(requests)
    pool = DaemonPool(min(backend.num_in_flight, len(requests)), "instructions")
    return list(pool.map(lambda request: backend.caption([request])[0], requests))


def _turns(text: str) -> Iterator[Turn]:
    """The closed turns in a model's text, which may stand in prose or a code fence, and may be cut off."""
    answer, decoder, at = THOUGHTS.sub("", text), json.JSONDecoder(strict=False), 0
    for _ in range(MAX_STARTS):
        at = answer.find("{", at)
        if at < 0:
            return
        try:
            value, at = decoder.raw_decode(answer, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        for item in value["turns"] if isinstance(value.get("turns"), list) else [value]:
            question, said = (item.get(name) for name in ("question", "answer")) if isinstance(item, dict) else (0, 0)
            if isinstance(question, str) and isinstance(said, str):
                yield Turn(question=one_line(visible(question)), answer=one_line(visible(said)))


def _values(fields: Any) -> Iterator[str]:
    """Every text in a JSON value, without keys."""
    if isinstance(fields, dict):
        fields = list(fields.values())
    for value in fields if isinstance(fields, list) else [fields]:
        if isinstance(value, dict | list):
            yield from _values(value)
        else:
            yield str(value)


def _words(text: str) -> set[str]:
    """Content words without the plural's s."""
    return {word.removesuffix("s") for word in WORD.findall(text.lower())} - STOPWORDS
