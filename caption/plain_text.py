"""Texts that people wrote for the web, as plain text: without markup, addresses and characters that nobody sees.

The words, their script and emoji stay.
"""

import re
import unicodedata
from html import unescape

MAX_READ = 4000
"""Characters of a text that are read; captions are shorter."""
ESCAPED_TWICE = 2
HTML = tuple(
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        r"<!--.*?(?:-->|$)",
        r"<(script|style|template|head)\b.*?(?:</\1\s*>|$)",
        r"<[!?][^<>]*(?:>|$)",
        r"</?[a-z][a-z0-9-]*(?:[\s/][^<>]*)?(?:>|$)",
    )
)
BLOCK = re.compile(r"</?(?:p|br|div|li|ul|ol|td|tr|hr|h[1-6])\b", re.IGNORECASE)
"""Tags that separate words."""
JOINERS = "\u200c\u200d"
"""They change letters of Persian and Indic scripts, and compose emoji."""

FLAG = re.compile("\U0001f3f4[\U000e0020-\U000e007e]{1,6}\U000e007f")
TERMINAL_CODE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
TAG_CHARACTERS = re.compile("[\U000e0000-\U000e007f]")
SELECTOR_RUN = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{2,}")
"""More than one variation selector in a row shows nothing; such runs carry hidden bytes."""

MARKUP: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.MULTILINE | re.IGNORECASE), kept)
    for pattern, kept in (
        (r"\{\{[^{}]*\}\}", " "),  # wiki templates
        (r"\[\[(?:File|Image|Category|Datei|Fichier|Archivo):[^\[\]]*\]\]", " "),
        (r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]", r"\1"),
        (r"\[https?://\S+\s+([^\[\]]*)\]", r"\1"),
        (r"!?\[([^\[\]]*)\]\([^()\s]*(?:\s+\"[^\"]*\")?\)", r"\1"),  # Markdown links and images
        (r"\[/?(?:b|i|u|s|url|img|quote|code|color|size|center)(?:=[^\[\]]*)?\]", ""),  # forum code
        (r"^={2,6} ?([^=\n]*?) ?={2,6}$", r"\1"),  # headings
        (r"^#{1,6} ", ""),
        (r"^(?:[-*+•]|>) ", ""),
        (r"'{2,5}", ""),
        (r"(\*\*|__|~~|`{1,3})(?=\S)(.+?)(?<=\S)\1", r"\2"),
        (r"(?<![\w*])\*(?=\S)([^*\n]+?)(?<=\S)\*(?![\w*])", r"\1"),
    )
)
ADDRESSES = re.compile(
    r"\b[a-z][a-z0-9+.-]{1,15}://\S+|\bwww\.\S+|\bmailto:\S+|\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,5}"
    r"|\b(?:[\w-]{1,63}\.){1,4}(?:com|org|net|io|tv|gg|ly|me|be|co\.uk)(?:/\S*)?(?=$|[\s,;:!?)])",
    re.IGNORECASE,
)
HANDLE = re.compile(r"(?<![\w@])@\w[\w.]*")
TRAILING_TAGS = re.compile(r"(?:[ ,|·]{0,3}#[\w-]{1,60}){2,}[ .,|·]{0,3}$")
HASHTAG = re.compile(r"(?<!\w)#(?=[^\W\d])")
EMPTY_BRACKETS = re.compile(r"\(\s*\)|\[\s*\]|\{\s*\}|<\s*>")
DANGLING = " \t-–—|·:;,/•"
"""What introduces a link or a tag, at an end of the text."""


def plain_text(text: str) -> str:
    """One line of plain text in Unicode form NFC; empty where nothing else was there."""
    text = without_tags(visible(text[:MAX_READ]))
    text = "\n".join(filter(None, map(one_line, text.splitlines())))
    for pattern, kept in MARKUP:
        text = pattern.sub(kept, text)
    text = HANDLE.sub(" ", ADDRESSES.sub(" ", text))
    text = HASHTAG.sub("", TRAILING_TAGS.sub("", one_line(text)))
    return one_line(EMPTY_BRACKETS.sub(" ", text)).strip(DANGLING)


def visible(text: str) -> str:
    """Without control characters, directions, tags and other characters that are not shown; line ends stay."""
    text = unicodedata.normalize("NFC", TERMINAL_CODE.sub("", text))
    flags = {place for match in FLAG.finditer(text) for place in range(*match.span())}
    text = "".join(_shown(char) for place, char in enumerate(text) if place in flags or not TAG_CHARACTERS.match(char))
    return SELECTOR_RUN.sub("", text)


def _shown(char: str) -> str:
    category = unicodedata.category(char)
    if char in "\n\t\r" or category in ("Zl", "Zp"):
        return "\n"
    is_flag_part = TAG_CHARACTERS.match(char) is not None
    is_noncharacter = ord(char) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(char) <= 0xFDEF
    is_hidden = category in ("Cc", "Co", "Cs") or (category == "Cf" and char not in JOINERS and not is_flag_part)
    if category == "Cc":
        return " "
    return "" if is_hidden or is_noncharacter else char


def one_line(text: str) -> str:
    return " ".join(text.split())


def without_tags(text: str) -> str:
    """HTML as the text that it shows, also where it was escaped; `a < b` and `<3` stay."""
    for _ in range(ESCAPED_TWICE):
        text = unescape(text)
    for pattern in HTML:
        text = pattern.sub(lambda tag: "\n" if BLOCK.match(tag[0]) else "", text)
    return text
