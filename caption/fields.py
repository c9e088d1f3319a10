"""Level `fields`: what a captioner says of a clip, part by part, and how that is read from a model's text."""

import json
import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

ShotSize = Literal[
    "extreme close-up", "close-up", "medium close-up", "medium shot", "medium wide shot", "wide shot",
    "extreme wide shot",
]  # fmt: skip
SHOT_SIZES: tuple[ShotSize, ...] = get_args(ShotSize)
UNKNOWN = "unknown"
"""What a model writes for a shot size that it cannot tell: schemas for constrained decoding leave no field out."""


class CaptionFields(BaseModel):
    """What can be said of a clip. Each part is optional."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    subjects: tuple[str, ...] = Field(
        (),
        description="the people, animals and things that matter, the most important first, each as a short phrase "
        "with how it looks, such as 'a woman in a red coat'",
    )
    actions: tuple[str, ...] = Field(
        (),
        description="what happens, in order of time, each as a short sentence with its subject, such as 'The woman "
        "opens a door'",
    )
    scene: str | None = Field(None, description="the place and what is around the subjects, as a short phrase")
    camera: str | None = Field(None, description="how the camera moves, such as 'static', 'pan left', 'zoom in'")
    shot_size: ShotSize | None = Field(None, description="how much of the main subject the frame shows")
    light: str | None = Field(None, description="the light, as a short phrase, such as 'soft morning light'")
    style: str | None = Field(None, description="the style, as a short phrase, such as 'hand-drawn animation'")
    visible_text: tuple[str, ...] = Field((), description="words that can be read in the picture, letter by letter")

    def to_json(self) -> str:
        """The parts that are said, as a JSON object: the text of level `fields`."""
        return self.model_dump_json(exclude_defaults=True)


LISTS = ("subjects", "actions", "visible_text")


def _property(name: str) -> dict[str, Any]:
    said = {"description": CaptionFields.model_fields[name].description}
    if name in LISTS:
        return {"type": "array", "items": {"type": "string"}, **said}
    return {"type": "string", **({"enum": [*SHOT_SIZES, UNKNOWN]} if name == "shot_size" else {}), **said}


FIELDS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {name: _property(name) for name in CaptionFields.model_fields},
    "required": list(CaptionFields.model_fields),
    "additionalProperties": False,
}
"""JSON schema for constrained decoding. It has only what strict modes accept: OpenAI's wants each property required
and no other ones, and refuses limits of lengths. What cannot be told is an empty list or text, or `unknown`."""


MAX_STARTS = 64
"""Braces of a text that are tried."""

THOUGHTS = re.compile(r"\A.*[<◁]/(?:think|thinking|reasoning)[>▷]|[<◁](?:think|thinking|reasoning)[>▷].*\Z", re.DOTALL)
"""Up to the last end of a block, whose begin chat templates often write themselves; an open block to its end."""

SPACE = re.compile(r"\s*")
BARE_KEY = re.compile(r"[A-Za-z_ ]+(?=\s*:)")
SINGLE_QUOTED = re.compile(r"'((?:[^'\\]|\\.|'(?!\s*(?:[,:\]}]|\Z)))*)'", re.DOTALL)
"""An apostrophe ends a string only where the object can continue after it."""

OTHER_NAMES = {
    **{"subject": "subjects", "main_subject": "subjects", "action": "actions", "events": "actions"},
    **{"setting": "scene", "background": "scene", "location": "scene", "environment": "scene"},
    **{"camera_movement": "camera", "camera_motion": "camera", "shot": "shot_size", "shot_type": "shot_size"},
    **{"lighting": "light", "visual_style": "style", "text": "visible_text", "on_screen_text": "visible_text"},
}
"""What models that are not constrained call the fields."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Salvaged:
    """What a model's text says.

    Attributes:
        fields: None: the text has no object with one of the fields.
        is_whole: The object is closed, and each of its fields has a value of its type.
    """

    fields: CaptionFields | None
    is_whole: bool


def salvage(text: str) -> Salvaged:
    """The fields in a model's text; raises nothing.

    The object may stand in a code fence or in prose, after a block of thoughts, have single quotes, bare keys and
    trailing commas, and be cut off: what is closed then counts. NaN and infinities are no values.
    """
    answer = THOUGHTS.sub("", text)
    for start in list(re.finditer(r"\{", answer))[:MAX_STARTS]:
        reader = _Reader(answer, start.end())
        values = reader.members()
        known = {key: value for key, value in values.items() if key in CaptionFields.model_fields}
        if known:
            read = {name: _read(name, value) for name, value in known.items()}
            said = {name: value for name, value in read.items() if value}
            is_whole = reader.is_whole and all(value is not None for value in read.values())
            return Salvaged(fields=CaptionFields(**said) if said else None, is_whole=is_whole)
    return Salvaged(fields=None, is_whole=False)


class _Damaged(ValueError):
    """The text is cut off here, or is no JSON."""


def _no_constant(name: str) -> Any:
    raise _Damaged(name)


JSON = json.JSONDecoder(strict=False, parse_constant=_no_constant)


class _Reader:
    """Reads one JSON object member by member, and keeps what is closed."""

    def __init__(self, text: str, at: int) -> None:
        self._text = text
        self._at = at
        self.is_whole = True

    def members(self) -> dict[str, Any]:
        """Names in snake case → values, up to the object's end or the first damage."""
        values: dict[str, Any] = {}
        try:
            while self._next() != "}":
                key = re.sub(r"[\s-]+", "_", self._key().strip()).lower()
                key = OTHER_NAMES.get(key, key)
                self._take(":")
                value = self._value()
                if not self.is_whole or self._ends("}"):  # of a list that is cut off, the closed items count
                    values[key] = value
                if not self.is_whole:
                    break
        except _Damaged:
            self.is_whole = False
        return values

    def _items(self) -> list[Any]:
        items: list[Any] = []
        try:
            while self._next() != "]":
                value = self._value()
                if self._ends("]"):
                    items.append(value)
                if not self.is_whole:
                    return items
            self._at += 1
        except _Damaged:
            self.is_whole = False
        return items

    def _value(self) -> Any:
        if self._next() == "[":
            self._at += 1
            return self._items()
        if self._next() == "'":
            return self._single_quoted()
        try:
            value, self._at = JSON.raw_decode(self._text, self._at)
        except (ValueError, RecursionError) as error:
            raise _Damaged from error
        return value

    def _key(self) -> str:
        if bare := BARE_KEY.match(self._text, self._at):
            self._at = bare.end()
            return bare[0]
        key = self._value()
        if not isinstance(key, str):
            raise _Damaged
        return key

    def _single_quoted(self) -> str:
        found = SINGLE_QUOTED.match(self._text, self._at)
        if not found:
            raise _Damaged
        self._at = found.end()
        return re.sub(r"\\(.)", r"\1", found[1])

    def _next(self) -> str:
        """The next character that is no space; empty at the end of the text."""
        space = SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at
        return self._text[self._at : self._at + 1]

    def _take(self, wanted: str) -> None:
        if self._next() != wanted:
            raise _Damaged
        self._at += 1

    def _ends(self, closing: str) -> bool:
        """Whether the value that was read is complete: a comma, the closing bracket or the text's end is next. Another
        character means that it ended too early, as at a quote that is not escaped."""
        found = self._next()
        if found == ",":
            self._at += 1
        elif found != closing:
            self.is_whole = False
        return found in ("", ",", closing)


NOTHING = frozenset(
    ("none", "n/a", "na", "nil", "null", "unknown", "unclear", "not visible", "no text", "no visible text",
     "not applicable", "not specified", "unspecified", "")
)  # fmt: skip
"""What models write in place of nothing."""

SHOT_SIZE_NAMES: dict[str, ShotSize] = {
    **{size.replace("-", " "): size for size in SHOT_SIZES},
    **{size.replace("-", " ") + " shot": size for size in SHOT_SIZES if not size.endswith("shot")},
    **{size.replace("wide", "long"): size for size in SHOT_SIZES if "wide" in size},
    **{size.removesuffix(" shot"): size for size in SHOT_SIZES},
    "closeup": "close-up", "mid shot": "medium shot", "cowboy shot": "medium wide shot", "full shot": "wide shot",
    "establishing shot": "extreme wide shot",
}  # fmt: skip


def _read(name: str, value: Any) -> tuple[str, ...] | str | None:
    """The field's value, empty where nothing is said; None where the value is of another type."""
    if value is None:
        return ""
    items = value if isinstance(value, list) else [value]
    if any(isinstance(item, bool) or not isinstance(item, str | int | None) for item in items):
        return None
    texts = tuple(text for item in items if item is not None and (text := _clean(str(item))))
    if name in LISTS:
        return texts
    text = ", ".join(texts)
    return SHOT_SIZE_NAMES.get(text.lower().replace("-", " ").strip(" .,"), "") if name == "shot_size" else text


def _clean(text: str) -> str:
    """One line of valid Unicode without control characters; empty for what stands for nothing."""
    valid = text.encode("utf-8", "ignore").decode()
    line = " ".join("".join(c if c.isprintable() else " " for c in valid).split())
    return "" if line.lower().strip(" .()[]-") in NOTHING else line
