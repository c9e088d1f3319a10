"""An input with what its user says of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.inputs.sources import Source

TEXT = "caption"
"""Column of the user's text: it becomes the captions of level `original`."""
TEXT_KEYS = (TEXT, "text", "prompt")
"""Keys of a JSON object, or columns of a list, that hold the text. The first counts."""
MAX_TEXT_BYTES = 2**24
"""Of a .txt or .json; more is no text of a sample."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """An input, its text and the user's own columns."""

    source: Source
    text: str | None = None
    columns: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class About:
    """What is said of an input that is listed elsewhere: the file at `url`; `where` says it."""

    where: str
    url: str
    text: str | None
    columns: Mapping[str, Any]


def read_json(text: str | bytes) -> Any:
    """What a text of JSON says.

    Raises:
        ValueError: it is none, or is nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_texts(txt: bytes | None, json_text: bytes | None) -> tuple[str | None, dict[str, Any]]:
    """The text of a sample and its columns, of its .txt and .json. The .txt counts where both have a text.

    Raises:
        ValueError: one is not UTF-8, or the .json is no object.
    """
    columns: dict[str, Any] = {}
    if json_text is not None:
        found = read_json(json_text)
        if not isinstance(found, dict):
            raise ValueError(f"its .json holds {type(found).__name__}, expected an object")
        columns = found
    if txt is None:
        return text_of(columns)
    text = txt.decode("utf-8-sig").strip()
    if columns.get(TEXT) == text:
        del columns[TEXT]
    return text or None, columns


def text_of(columns: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """The text among columns, and the others."""
    rest = dict(columns)
    name = next((name for name in TEXT_KEYS if isinstance(rest.get(name), str)), None)
    return (None, rest) if name is None else (rest.pop(name).strip() or None, rest)
