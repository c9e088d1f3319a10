"""Captions that tell of cuts within one shot, or that take a video for a photo, or a photo for a video."""

import re
from collections.abc import Iterator
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from caption.facts import Facts
from caption.quality.base import Check, Evidence, Remedies
from caption.quality.prose import ProseCheck
from caption.quality.words import sentences, unquoted
from caption.record import CaptionRecord, Finding, Remedy
from curate.dataset.captions import CaptionStatus

WHOLE = r"(?:scene|video|clip|footage|shot|view|film|sequence|camera|setting|it|action)"
SEVERAL = r"(?:several|multiple|various|different|many|two|three|four|five|a (?:series|sequence|set|mix) of)"
DRINK = r"(?:espresso|whisk(?:e)?y|vodka|tequila|rum|liquor|coffee|the goal)"
TURNS = r"(?:cuts?|switch(?:es)?|shifts?|transitions?|jumps?|fades?|dissolves?)"
CUTS = [
    re.compile(pattern)
    for pattern in (
        rf"\b{WHOLE} (?:\w+ly |then |also |next )*{TURNS} (?:\w+ly |back |over )*(?:to|into|between|away)\b",
        r"\b(?:scene|setting|location) (?:\w+ly |then )*(?:changes|switches|shifts)\b(?! from)",
        rf"\b{WHOLE} (?:\w+ly )*(?:alternates|intercuts) between\b",
        r"\b(?:quick|rapid|fast|jump|frequent|hard) (?:\w+ )?cuts\b",
        r"^(?:and )?(?:then )?(?:the )?(?:scene )?cuts? (?:to|back)\b|\bcut to\b",
        r"\ba (?:quick|hard|sudden|jump|sharp|smash|match)[ -]?(?:quick |hard |jump )?cut\b",
        rf"\b{SEVERAL} (?:\w+ )?(?:shots|scenes|clips|camera angles|cuts)\b"
        rf"(?! (?:at|on|are fired|of {DRINK}))",
        r"\b(?:next|second|third|fourth|final|last|following|another|subsequent) (?:shot|scene|camera angle)\b"
        r"(?! of (?:the )?(?:\w+ )?(?:play|opera|ballet|musical))",
        r"\b(?:montage|compilation) of\b",
    )
]
ACTS = r"(?:takes?|took|fires?|fired|saves?|blocks?|stops?|pours?|drinks?|makes?|hits?|orders?|serves?|scores?)"
NEGATED = re.compile(rf"\b(?:not|no|never|without|single|nor|\w+n't)\b[^,;]{{0,30}}$|\b{ACTS} (?:\w+ )?$")
"""Before a claim: it is denied, or a person's shot is meant."""

ADJECTIVE = r"(?:(?:still|static|black-and-white|black and white|color|close-up|single|framed|blurry|old|vintage) )*"
PHOTO = re.compile(
    rf"^(?:an?|the|this) {ADJECTIVE}(?:photo|photograph|snapshot|(?:still|static) (?:image|picture|photograph|frame))"
    r"(?: of\b| captures| shows| depicts| features| was taken| is of| in which| with)"
    r"(?!.*\b(?:lies|hangs|stands|leans|rests|is (?:held|pinned|projected|shown))\b)"
)
VIDEO = re.compile(
    r"^(?:an?|the|this)? ?(?:\w+ ){0,2}(?:video|clip|footage)(?: clip| footage)?,?"
    r" (?:of|in which|that|which|shows|showing|begins|ends|opens|captures|features)\b(?!.*\b(?:plays|playing) on\b)"
    r"|\b(?:the|this) (?:video|clip|footage) (?:ends|begins|opens|starts|shows|captures|continues)\b"
    r"|\b(?:camera|shot|view) (?:\w+ly )*(?:pans?|tilts?|zooms?|moves|follows|tracks|circles|orbits|glides|dollies)\b"
)
TERMS = {"image": "a still image", "video": "a video"}


class MediumConfig(BaseModel):
    """Finds claims about the medium that are not so."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    is_one_shot: bool = Field(
        True, description="clips are single shots, as scans leave them; false where scan.detector is whole"
    )

    def build(self) -> Check:
        return MediumCheck(self)


class MediumCheck(ProseCheck):
    """`shots_contradicted`, `medium_contradicted`: told what it is."""

    remedies: ClassVar[Remedies] = {"shots_contradicted": (Remedy.PROMPT,), "medium_contradicted": (Remedy.PROMPT,)}

    def __init__(self, config: MediumConfig) -> None:
        self.config = config

    def of_text(self, text: str, record: CaptionRecord, evidence: Evidence) -> Iterator[Finding]:
        lowered = [sentence.lower() for sentence in sentences(unquoted(text.replace("’", "'")))]
        facts = evidence.facts
        if (
            facts.kind == "video"
            and self.config.is_one_shot
            and (claim := next(filter(None, map(_cut, lowered)), None))
        ):
            yield Finding(
                code="shots_contradicted",
                status=CaptionStatus.REJECTED,
                detail=f"the text tells of several shots ({claim!r}), the clip is one",
                remedy=Remedy.PROMPT,
                instruction="The clip is a single shot without cuts.",
            )
        if claim := _other_medium(lowered, facts):
            yield Finding(
                code="medium_contradicted",
                status=CaptionStatus.REJECTED,
                detail=f"the text says {claim!r}, it is {TERMS[facts.kind]}",
                remedy=Remedy.PROMPT,
                instruction=f"This is {TERMS[facts.kind]}.",
            )


def _cut(sentence: str) -> str | None:
    matches = (match for pattern in CUTS for match in pattern.finditer(sentence))
    return next((match[0] for match in matches if not NEGATED.search(sentence[: match.start()])), None)


def _other_medium(lowered: list[str], facts: Facts) -> str | None:
    """What says that a video is a photo, or that a photo is a video. A video of a photo does not move."""
    if facts.kind == "video":
        found = [match[0] for match in map(PHOTO.search, lowered[:1]) if match and not facts.is_static]
    else:
        found = [match[0] for match in map(VIDEO.search, lowered) if match]
    return found[0] if found else None
