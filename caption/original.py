"""The user's own text as captions: a column of the sidecar → records of level `original`. No model is asked."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

import pyarrow as pa

from caption.injection import injection_in
from caption.plain_text import MAX_READ, one_line, plain_text, visible, without_tags
from caption.provenance import Provenance
from caption.record import CaptionRecord, Finding
from curate.dataset.captions import CaptionStatus
from curate.schema import content_digest

BACKEND = "sidecar"
RULES = "original-v1"
"""Names how texts are cleaned and judged; other rules get another name, and records of their own."""
MIN_WORDS = 2
MIN_LETTERS = 3
MAX_CHARACTERS = 600

WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+(?:['’-][^\W_]+)*")
"""A word; each character of a script without spaces counts as one."""
SENTENCE_END = re.compile(r"[.!?…][\"'”’)]*(?=\s)|[。！？]")
FILE_NAME = re.compile(
    r"[^/\\\n]{1,200}\.(?:mp4|m4v|mov|avi|mkv|webm|wmv|flv|mpe?g|mts|m2ts|3gp|ogv|ts|gif|jpe?g|png|webp|heic|tiff?|bmp)"
    r"|(?:img|dsc[nf]?|mvi|vid|pxl|gopr|g[xh]|dji|mov|clip|video|movie|untitled|screenshot|screen recording|received"
    r"|fb_img|whatsapp (?:video|image)|signal|snapchat|timeline|sequence|export|final|test|scan|image|photo)"
    r"[\s._-]*[\d\s._:-]*(?:at\s[\d\s._:-]*)?(?:[ap]m)?"
    r"|\d[\d\s._:/-]*(?:T[\d:._-]+Z?)?|no (?:title|name)|n/?a|none|null|unknown|unnamed",
    re.IGNORECASE,
)
DIGEST = re.compile(r"(?=\S*\d)(?:[0-9a-f]{8,}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[\w-]{11,}[_\d]\w*)", re.I)
"""Hexadecimal digests, UUIDs, and identifiers without spaces that have digits."""


def original_family(column: str) -> str:
    """Name of the table of the records of this column."""
    return f"original-{content_digest(RULES, column)[:12]}"


def check_column(schema: pa.Schema, own: Sequence[str], column: str) -> None:
    """See that a column of the user's is text.

    Args:
        schema: of the index.
        own: the user's columns.

    Raises:
        ValueError: there is no such column, or it holds something else than text.
    """
    if column not in own:
        has = (
            f"its columns are {', '.join(sorted(own))}"
            if own
            else "there is no sidecar: reelpack curate --sidecar FILE"
        )
        raise ValueError(f"caption.original={column}: the sidecar has no such column; {has}")
    if not is_text(schema.field(column).type):
        texts = sorted(name for name in own if is_text(schema.field(name).type))
        named = f"columns of text are {', '.join(texts)}" if texts else "no column holds text"
        raise ValueError(f"caption.original={column}: got {schema.field(column).type}, expected text; {named}")


def original_records(clip_ids: Sequence[str], texts: Sequence[str | None], column: str) -> Iterator[CaptionRecord]:
    """One record per clip. The clips of a film share its text."""
    provenance = Provenance(
        backend=BACKEND, model=column, revision=RULES, fingerprint=content_digest(BACKEND, RULES, column)
    )
    for clip_id, given in zip(clip_ids, texts, strict=True):
        text, findings = sanitized(given)
        yield CaptionRecord(
            clip_id=clip_id,
            media_digest=None,
            level="original",
            text=text,
            findings=findings,
            attempt=0,
            finish_reason="not_asked",
            provenance=provenance,
            prompt_id=RULES,
            prompt_hash=content_digest(RULES),
            prompt_text="",
            frame_indices=(),
            frame_times_s=(),
            max_tokens=0,
            num_prompt_tokens=0,
            num_output_tokens=0,
        )


@lru_cache(maxsize=10_000)
def sanitized(given: str | None) -> tuple[str, tuple[Finding, ...]]:
    """A text as captions may hold it, at most `MAX_CHARACTERS` long, and what was found in it."""
    if given is None or not given.strip():
        return "", (_finding("no_text", CaptionStatus.EMPTY, "the user gave no text"),)
    seen = visible(given[:MAX_READ])
    text = plain_text(given)
    # Tags are no words: a token that looks like one is looked for before they go, an order also after.
    if passage := injection_in(seen) or injection_in(without_tags(seen)) or injection_in(text):
        return text[:MAX_CHARACTERS], (
            _finding("prompt_injection", CaptionStatus.REJECTED, f"the text addresses a model ({passage})"),
        )
    if not text:
        return "", (_finding("only_markup", CaptionStatus.REJECTED, "only links, tags, handles or markup were there"),)
    if (name := _file_name(one_line(given)) or _file_name(text)) is not None:
        return text, (_finding("file_name", CaptionStatus.REJECTED, f"a file's name is no caption ({name})"),)
    num_words, num_letters = len(WORD.findall(text)), sum(map(str.isalpha, text))
    if num_words < MIN_WORDS or num_letters < MIN_LETTERS:
        detail = f"fewer than {MIN_WORDS} words or {MIN_LETTERS} letters ({num_words} and {num_letters})"
        return text, (_finding("too_short", CaptionStatus.REJECTED, detail),)
    if len(text) > MAX_CHARACTERS or len(given) > MAX_READ:
        return _cut(text)
    return text, ()


def is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _cut(text: str) -> tuple[str, tuple[Finding, ...]]:
    """A long text up to the end of its last sentence that fits. Without one it ends in the middle of a sentence."""
    head = text[: MAX_CHARACTERS + 1]
    lengths = f"({MAX_CHARACTERS} characters of {len(text)})"
    ends = [match.end() for match in SENTENCE_END.finditer(head) if match.end() <= MAX_CHARACTERS]
    if ends:
        return head[: ends[-1]], (_finding("cut", CaptionStatus.OK, f"cut after a sentence {lengths}"),)
    words = head[:MAX_CHARACTERS].rpartition(" ")[0] or head[:MAX_CHARACTERS]
    return words, (_finding("cut", CaptionStatus.TRUNCATED, f"cut in the middle of a sentence {lengths}"),)


def _file_name(text: str) -> str | None:
    """The text, shortened, where it names a file and describes nothing."""
    is_name = FILE_NAME.fullmatch(text) or DIGEST.fullmatch(text) or ("_" in text and " " not in text)
    return text[:40] if is_name else None


def _finding(code: str, status: CaptionStatus, detail: str) -> Finding:
    return Finding(code=code, status=status, detail=detail)
