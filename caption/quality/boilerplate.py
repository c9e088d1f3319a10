"""Openings that talk about the video or the answer, in place of what is shown."""

import re
from collections.abc import Iterator
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from caption.quality.base import Check, Evidence, Remedies
from caption.quality.prose import ProseCheck
from caption.record import CaptionRecord, Finding, Remedy
from curate.dataset.captions import CaptionStatus

ADJECTIVE = (
    r"(?:(?:short|brief|first|last|second|given|provided|whole|entire|above|following|still|animated|black-and-white|"
    r"close-up|series of|sequence of|set of|collection of) )*"
)
MEDIUM = (
    r"(?:video clips?|video footage|videos?|images?|pictures?|photos?|photographs?|clips?|footage|frames?|sequences?|"
    r"scenes?|recordings?|animations?|snippets?|excerpts?)(?: of (?:images|frames|pictures|photos))?"
)
SHOWS = (
    r"(?:shows?|showing|depicts?|depicting|captures?|capturing|features?|featuring|begins?|opens?|starts?|portrays?|"
    r"presents?|displays?|illustrates?|showcases?|focus(?:es)?|contains?|provides?|reveals?|is (?:of|about|a|an)|"
    r"appears? to|seems? to|consists?)\b"
)
OPENINGS = [
    re.compile(pattern)
    for pattern in (
        rf"^(?:in|on|from|throughout|during|across|at the (?:start|beginning) of) (?:this|the|these|those|all) "
        rf"{ADJECTIVE}{MEDIUM}(?:,|:| (?:we|you|there|one)\b)",
        rf"^(?:this is|these are|it's) (?:an? |the )?{ADJECTIVE}{MEDIUM} (?:of|from|showing|that|which|in which)\b",
        rf"^(?:in|throughout) this {ADJECTIVE}{MEDIUM}\b",
        rf"^(?:the|this|these|those|an?) {ADJECTIVE}{MEDIUM} (?:\w+ly )?{SHOWS}",
        r"^(?:sure|certainly|of course|absolutely|okay|ok|great|alright)(?: thing)?[,.!:]",
        r"^here(?:'s| is| are) (?:a|an|the|your|my|one|some) (?:[\w-]+ ){0,3}"
        r"(?:description|caption|summary|paragraph|sentence|breakdown|analysis|answer)s?\b",
        r"^(?:(?:short|dense|detailed|brief|video|image|clip|possible|suggested) )*"
        r"(?:caption|description|summary|answer|title|output)s?\b[ *_]*:",
        r"^(?:what )?(?:i|we|you|one) (?:can |could )?(?:see|notice|are shown|observe|watch|look at)\b",
        r"^(?:based on|judging (?:by|from)|according to|looking at|as (?:seen|shown) in) (?:the|this|these) "
        rf"{ADJECTIVE}{MEDIUM}\b",
        r"^frame \d+\b",
    )
]


class BoilerplateConfig(BaseModel):
    """Finds openings such as "In this video" and "Here is a description"."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def build(self) -> Check:
        return BoilerplateCheck()


class BoilerplateCheck(ProseCheck):
    """`boilerplate`: told to begin with what is shown."""

    remedies: ClassVar[Remedies] = {"boilerplate": (Remedy.PROMPT,)}

    def of_text(self, text: str, record: CaptionRecord, evidence: Evidence) -> Iterator[Finding]:
        opening = re.sub(r"^[\W_]+", "", text.replace("’", "'")).lower()
        if found := next(filter(None, (pattern.search(opening) for pattern in OPENINGS)), None):
            yield Finding(
                code="boilerplate",
                status=CaptionStatus.REJECTED,
                detail=f"the text does not begin with what is shown ({found[0]!r})",
                remedy=Remedy.PROMPT,
                instruction="Begin with what is shown. Do not mention the video, the image or the frames.",
            )
