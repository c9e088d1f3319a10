"""Refusals: the model talks about itself and what it cannot do, in place of the clip."""

import re
from collections.abc import Iterator
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from caption.quality.base import Check, Evidence, Remedies
from caption.quality.prose import ProseCheck
from caption.quality.words import sentences, unquoted
from caption.record import CaptionRecord, Finding, Remedy
from curate.dataset.captions import CaptionStatus

MEDIUM = r"(?:videos?|images?|frames?|clips?|footage|pictures?|photos?|attachments?|files?)"
LEAD = r"(?:(?:unfortunately|sorry|however|but|so|and|because|since|as)\b,? ?)*"
SELF = r"\b(?:i|we)\b(?:'m| am|'re| are|'ve| have| do| was| were| would| must)?"
REFUSALS = [
    re.compile(pattern)
    for pattern in (
        rf"^{LEAD}(?:(?:i'm|i am|we're|we are) )?(?:\w+ )?sorry(?:[,.!]|$| but| for the| that i| i\b)",
        rf"^{LEAD}(?:i |we |my )(?:\w+ )?apolog(?:y|ies|i[sz]e)|^(?:my )?apologies\b",
        rf"^{LEAD}{SELF} (?:\w+ )?(?:can ?not|can't|could not|couldn't|unable|not able|won't|will not|not allowed)\b",
        rf"^{LEAD}{SELF} (?:not|don't|didn't|lack) (?:\w+ ){{0,2}}(?:have|see|able|comfortable|access|ability)\b",
        rf"^{LEAD}(?:i|we) (?:don't|do not|didn't|did not) (?:have|see|possess|find|receive)\b",
        rf"^{LEAD}{SELF} (?:\w+ )?(?:decline|refuse|regret|afraid)\b",
        rf"^{LEAD}(?:i|we) (?:can only|(?:would |will )?(?:need|require)) ",
        r"\bnot enough (?:information|context|detail)|\b(?:more|further) (?:information|context) (?:to|about|so)\b",
        rf"\b{MEDIUM} (?:do not|does not|don't|doesn't) (?:contain|provide|show|include|give) (?:enough|sufficient)\b",
        r"\bas an? [^,.]{0,40}\b(?:ai|language model|assistant|model)\b,? (?:i|we|my)\b",
        rf"^{LEAD}(?:it (?:seems|appears|looks like)(?: that)? )?(?:there (?:is|are|was|were) )?no {MEDIUM} "
        r"(?:(?:is|are|was|were|has been|have been) )?(?:attached|provided|included|uploaded|given|shared|here)\b",
        r"\b(?:please|(?:can|could|would) you) (?:please )?(?:provide|share|attach|send|supply|describe|upload)\b",
        rf"^{LEAD}it(?:'s| is| isn't) (?:not possible|impossible|possible)(?: for me)? to "
        r"(?:describe|say|provide|identify|give|analy[sz]e|write|determine)",
        r"\b(?:violates?|against|breach(?:es)?) (?:my|our|the|its) (?:\w+ )?(?:guidelines?|polic(?:y|ies)|terms)\b",
    )
]


class RefusalConfig(BaseModel):
    """Finds refusals. A sign in quotes, or a person who says sorry, is none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def build(self) -> Check:
        return RefusalCheck()


class RefusalCheck(ProseCheck):
    """`refusal`: asked in other words; then the second model."""

    remedies: ClassVar[Remedies] = {"refusal": (Remedy.PROMPT, Remedy.BACKEND)}

    def of_text(self, text: str, record: CaptionRecord, evidence: Evidence) -> Iterator[Finding]:
        for sentence in sentences(unquoted(text.replace("’", "'"))):
            if any(refusal.search(sentence.lower()) for refusal in REFUSALS):
                yield Finding(
                    code="refusal",
                    status=CaptionStatus.REJECTED,
                    detail="the model refuses",
                    remedy=Remedy.PROMPT if record.attempt <= 1 else Remedy.BACKEND,
                    instruction="Describe only what can be seen. Nobody needs to be identified.",
                )
                return
