"""What checks see in a text: its words, its sentences, what stands in quotes."""

import re

WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+(?:['’\-][^\W_]+)*")
"""A word with its apostrophes and hyphens; one character of a script that puts no space between words."""

SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’»)\]]*\s+|(?<=[。！？])|\n+")
QUOTED = re.compile(
    r"\"[^\"\n]*\"|“[^”\n]*”|«[^»\n]*»|„[^“”\n]*[“”]"
    r"|(?<!\w)['‘](?!s\b)[^'’\n]*(?:\w['’]\w[^'’\n]*)*['’](?!\w)"
)


def words(text: str) -> list[str]:
    """The words of a text in lower case."""
    return [word.casefold() for word in WORD.findall(text.replace("’", "'"))]


def sentences(text: str) -> list[str]:
    """The sentences of a text; lines are sentences."""
    return [sentence.strip() for sentence in SENTENCE_END.split(text) if sentence and sentence.strip()]


def unquoted(text: str) -> str:
    """The text without what stands in quotes: speech, and what can be read in the picture."""
    return QUOTED.sub("“”", text)


def normalized(text: str) -> str:
    """The words in lower case, without punctuation: equal for texts that say the same."""
    return " ".join(words(text))
