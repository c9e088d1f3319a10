"""Names and numbers that nothing known of the clip contains: a model does not see who somebody is, or when it was."""

import re
import unicodedata
from collections.abc import Iterator
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from caption.fields import salvage
from caption.quality.base import Check, Evidence, Remedies
from caption.quality.prose import ProseCheck
from caption.quality.words import WORD, sentences, unquoted
from caption.record import CaptionRecord, Finding, Remedy
from curate.dataset.captions import CaptionStatus

COMMON_WORDS = """
    ok monday tuesday wednesday thursday friday saturday sunday january february march april may june july august
    september october november december christmas easter halloween thanksgiving ramadan hanukkah diwali french dutch
    greek swiss czech welsh thai arab arabic hindi hebrew german roman latin gothic renaissance baroque romanesque
    medieval art deco nouveau impressionist expressionist cubist surrealist pop bauhaus celtic nordic arctic antarctic
    asian african american european mexican korean tuscan moroccan cuban hawaiian bavarian alaskan buddhist buddha
    catholic christian islamic muslim jewish hindu santa claus god north south east west northern southern eastern
    western earth moon sun venus mars jupiter saturn milky way ferris wheel internet bluetooth wifi polaroid lego
    labrador dalmatian chihuahua rottweiler siamese husky shepherd bernese shetland alpine mr mrs ms dr
"""
COMMON = frozenset(COMMON_WORDS.split())
"""Words with a capital that name nobody: days, feasts, styles, peoples, breeds."""

PEOPLE = re.compile(r"(?:ish|ese|ian|ians|can|cans|iac|esque|ean)$")
READ = re.compile(
    r"\b(?:reads?|reading|says|saying|spells?|labeled|labelled|titled|marked|written|inscribed|printed|the words?|"
    r"the text|the letters?)[:,]?\W*$",
    re.IGNORECASE,
)
BEGINS = re.compile(r"[:;“\"(*>\]\-–—][\W_]*$")
"""Between two words, where the second begins something."""

NUMBER = re.compile(r"(?<![\w.,:])\d+(?:[.,:]\d+)*(?=s?\b)")
TECHNICAL = re.compile(r"\s?-?(?:mm|fps|hz|bit|k)\b|:\d|-degrees?\b|\s?°|\s?x\s?\d", re.IGNORECASE)
ANGLES = frozenset({"45", "90", "180", "360"})


class InventedConfig(BaseModel):
    """Finds names inside sentences, and numbers, that are neither in the user's own text nor in the visible text of
    the fields. What the caption quotes is taken as read from the picture."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    names: bool = Field(True, description="find names; false for languages whose nouns have capitals, such as German")
    numbers: bool = Field(True, description="find numbers of two digits and more")
    max_count: int = Field(20, ge=0, description="numbers up to this can be counted in the picture, and pass")

    def build(self) -> Check:
        return InventedCheck(self)


class InventedCheck(ProseCheck):
    """`invented_name`, `invented_number`: told to leave it out."""

    remedies: ClassVar[Remedies] = {"invented_name": (Remedy.PROMPT,), "invented_number": (Remedy.PROMPT,)}

    def __init__(self, config: InventedConfig) -> None:
        self.config = config

    def of_text(self, text: str, record: CaptionRecord, evidence: Evidence) -> Iterator[Finding]:
        known = _known(evidence)
        outside = unquoted(text)
        names = [name for name in _names(outside) if not known.issuperset(map(_plain, re.split(r"['’\-]", name)))]
        if self.config.names and names:
            yield _finding("invented_name", "a name", names[0], "Name no person, place or brand.")
        numbers = [one for one in _numbers(outside, self.config.max_count) if _plain(one) not in known]
        if self.config.numbers and numbers:
            yield _finding("invented_number", "a number", numbers[0], "Give no years, dates, figures or estimates.")


def _finding(code: str, what: str, found: str, instruction: str) -> Finding:
    return Finding(
        code=code,
        status=CaptionStatus.REJECTED,
        detail=f"{what} that is in no evidence ({found})",
        remedy=Remedy.PROMPT,
        instruction=instruction,
    )


def _known(evidence: Evidence) -> frozenset[str]:
    fields = salvage(evidence.fields).fields if evidence.fields else None
    texts = (evidence.original or "", *(fields.visible_text if fields else ()))
    whole = {_plain(word) for text in texts for word in (*WORD.findall(text), *NUMBER.findall(text))}
    return frozenset(whole | {_plain(part) for word in whole for part in re.split(r"['’\-]", word)} | {"s", ""})


def _names(text: str) -> Iterator[str]:
    """Words with a capital inside sentences. Titles, in which most words have one, have no names to tell apart."""
    for sentence in sentences(text):
        matches = list(WORD.finditer(sentence))
        longer = [match[0] for match in matches if len(match[0]) > 3]
        if 2 * sum(word[0].isupper() for word in longer) > len(longer) > 2:
            continue
        for before, match in zip([None, *matches], matches, strict=False):
            word = match[0]
            begins = before is None or BEGINS.search(sentence[before.end() : match.start()])
            is_read = READ.search(sentence[: match.start()])
            if word[0].isupper() and not (begins or is_read or _is_common(word)):
                yield word


def _is_common(word: str) -> bool:
    parts = re.split(r"['’\-]", word)
    plain = _plain(parts[0])
    is_acronym = word.upper() == word  # "LED", "TV": also words that stand in the picture
    return is_acronym or len(parts[0]) == 1 or plain in COMMON or bool(PEOPLE.search(plain))


def _numbers(text: str, max_count: int) -> Iterator[str]:
    for match in NUMBER.finditer(text):
        number, after = match[0], text[match.end() :]
        is_count = number.isdecimal() and int(number) <= max_count
        is_angle = number in ANGLES and after.lstrip(" -").startswith("degree")
        if not (is_count or is_angle or TECHNICAL.match(after) or READ.search(text[: match.start()])):
            yield number


def _plain(word: str) -> str:
    """Without case and accents."""
    decomposed = unicodedata.normalize("NFKD", word.casefold())
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))
