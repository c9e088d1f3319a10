"""Captions that contradict the measured motion of the camera."""

import re
from collections.abc import Collection, Iterator
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from caption.fields import salvage
from caption.quality.base import Check, Evidence, Remedies
from caption.quality.prose import PROSE
from caption.quality.words import sentences, unquoted
from caption.record import CaptionRecord, Finding, Remedy
from curate.dataset.captions import CaptionStatus

STATIC = "static"
OPPOSITE = {
    "pan left": "pan right",
    "pan right": "pan left",
    "tilt up": "tilt down",
    "tilt down": "tilt up",
    "zoom in": "zoom out",
    "zoom out": "zoom in",
}
"""Motions that exclude each other: a caption that says one is contradicted where the other is measured."""

WHO = r"\b(?:camera|shot|view|frame|lens|footage|clip|video|perspective|image|scene|it)\b(?: work)?"
HOW = r"(?:\s+(?!(?:and|while|as|who|where)\b)[\w-]+){0,4}?\s+"
DIRECTION = r"(?:\s+(?:\w+ly|back|further|to|towards?|the|and|its|over))*\s+"
AND = r"\b(?:camera|shot|view)\b.*\b(?:and|then|before|while)\s+(?:then\s+|\w+ly\s+)*"
NOUN = (
    r"(?:^(?:an? )?|\b(?:with|there is|by|then|includes|features|performs|makes|in) an? )"
    r"(?:\w+ly |slow |smooth |quick |gentle |slight |subtle )*"
)
PAN, TILT, ZOOM = r"pan(?:s|ned|ning)?", r"tilt(?:s|ed|ing)?", r"zoom(?:s|ed|ing)?"
SIDE, HEIGHT, WAY = r"(?P<to>left|right)(?:wards?)?", r"(?P<to>up|down)(?:wards?)?", r"(?P<to>in|out)(?:wards?)?"
STILL = r"(?:static|fixed|stationary|still|motionless|immobile|locked[- ]off|locked|unmoving|in place)"
MOTIONS = {
    axis: [re.compile(pattern) for pattern in patterns]
    for axis, patterns in {
        "pan": (
            rf"{WHO}{HOW}{PAN}{DIRECTION}{SIDE}\b",
            rf"{AND}{PAN}{DIRECTION}{SIDE}\b",
            rf"{NOUN}{PAN}{DIRECTION}{SIDE}\b(?! (?:burner|side of))",
            rf"\b{SIDE} pan(?:s|ning)?\b(?! (?:handle|of))",
            rf"\bpan {SIDE}\b",
        ),
        "tilt": (
            rf"{WHO}{HOW}{TILT}{DIRECTION}{HEIGHT}\b",
            rf"{AND}{TILT}{DIRECTION}{HEIGHT}\b",
            rf"{NOUN}{TILT}{DIRECTION}{HEIGHT}\b",
            rf"\b{HEIGHT} tilt\b",
        ),
        "zoom": (
            rf"{WHO}{HOW}{ZOOM}{DIRECTION}{WAY}\b",
            rf"{AND}{ZOOM}{DIRECTION}{WAY}\b",
            rf"{NOUN}{ZOOM}[ -]{WAY}\b",
        ),
    }.items()
}
STATIC_CLAIMS = re.compile(
    rf"\b{STILL} (?:wide |medium |long |low |high |close-up |eye-level )*(?:camera|shot|view|frame|framing)\b"
    r"|\b(?:camera|shot|view|framing)(?: work| angle)? (?:is|are|was|stays?|remains?|stands?|holds?|keeps?)"
    rf"(?: \w+ly| all| quite| very)* {STILL}\b(?=\W|$)(?! (?!throughout|as|while|and|on|for|during|at|in)\w)"
    r"|\bcamera (?:does not|doesn't|never|hardly) moves?\b|\bno camera (?:movement|motion)\b"
)
NEGATED = re.compile(r"\b(?:not|no|never|without|neither|nor|\w+n't|instead of|rather than)\b[^,;]{0,30}$")


class CameraConfig(BaseModel):
    """Finds claims about the camera that its measured motion excludes. What is not measured is not judged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def build(self) -> Check:
        return CameraCheck()


class CameraCheck(Check):
    """`camera_contradicted`: told the measured motion."""

    remedies: ClassVar[Remedies] = {"camera_contradicted": (Remedy.PROMPT,)}

    def of_caption(self, record: CaptionRecord, evidence: Evidence) -> Iterator[Finding]:
        measured = evidence.facts.camera
        if not measured or evidence.facts.kind == "image":
            return
        for claim in sorted(claims(_text_on_camera(record))):
            if _contradicts(claim, measured):
                yield Finding(
                    code="camera_contradicted",
                    status=CaptionStatus.REJECTED,
                    detail=f"the text says {claim}, measured is {', '.join(measured)}",
                    remedy=Remedy.PROMPT,
                    instruction=f"{evidence.facts.sentence()} Say nothing else about how the camera moves.",
                )
                return


def claims(text: str) -> set[str]:
    """What a text says of the camera's motion, in the terms of `Facts.camera`. Negated and mixed claims are left out:
    a camera that pans to both sides."""
    found: set[str] = set()
    for sentence in sentences(unquoted(text.replace("’", "'"))):
        lowered = re.sub(r"\bfrom (?:the )?(left|right|top|bottom)\b(?: side)? to\b", "to", sentence.lower())
        if any(not _is_negated(lowered, match) for match in STATIC_CLAIMS.finditer(lowered)):
            found.add(STATIC)
        for axis, patterns in MOTIONS.items():
            for match in (match for pattern in patterns for match in pattern.finditer(lowered)):
                if not _is_negated(lowered, match):
                    found.add(f"{axis} {match['to']}")
    return {claim for claim in found if OPPOSITE.get(claim) not in found}


def _is_negated(sentence: str, match: re.Match[str]) -> bool:
    """Whether a negation stands before a claim, or within a claim of a motion."""
    is_motion = "to" in match.re.groupindex
    is_negated_within = is_motion and re.search(r"\b(?:not|never|\w+n't)\b", match[0]) is not None
    return is_negated_within or NEGATED.search(sentence[: match.start()]) is not None


def _contradicts(claim: str, measured: Collection[str]) -> bool:
    if claim == STATIC or tuple(measured) == (STATIC,):
        return claim not in measured
    return OPPOSITE[claim] in measured and claim not in measured


def _text_on_camera(record: CaptionRecord) -> str:
    if record.level in PROSE:
        return record.text
    fields = salvage(record.text).fields if record.level == "fields" else None
    return f"Camera: the camera is {fields.camera}. The camera {fields.camera}." if fields and fields.camera else ""
