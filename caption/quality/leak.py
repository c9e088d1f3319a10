"""Text that belongs to the conversation and not to the caption: control tokens, roles, thoughts, the prompt."""

import re
from collections.abc import Iterator
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from caption.quality.base import Check, Evidence, Remedies
from caption.quality.prose import ProseCheck
from caption.quality.words import normalized, sentences, unquoted, words
from caption.record import CaptionRecord, Finding, Remedy
from curate.dataset.captions import CaptionStatus

NUM_SHARED_WORDS = 8
"""So many words in a row that the prompt has too are taken from it."""

MIN_SENTENCE_WORDS = 4

MARKERS = re.compile(
    r"<\|[^|<>\n]{1,40}\|>"
    r"|</?(?:s|pad|unk|bos|eos|cls|sep|mask|image|video|img|audio|think|thinking|thought|reasoning|answer|im_patch|"
    r"image_soft_token|start_of_turn|end_of_turn|start_of_image|end_of_image|end_of_utterance|row_\d+_col_\d+|"
    r"fake_token_around_image|global-img|tool_call|tool_response)>"
    r"|◁/?think▷|<</?SYS>>|\[/?(?:INST|IMG|IMAGE|VIDEO|EOS|BOS|PAD)\]|<0x[0-9A-Fa-f]{2}>"
    r"|^#{2,}\s*(?:response|instruction|assistant|user|human|system|input|output|answer)\b"
    r"|\{\{?\s*[a-z_]+\s*\}?\}|^\s*\{\s*[\"']|```"
    r"|^(?:note|explanation|reasoning|analysis|thought|instructions?|prompt|question)\s*:",
    re.IGNORECASE | re.MULTILINE,
)
ROLES = re.compile(
    r"^(?:user|assistant|human|model|system|gpt|ai)(?:\s*:|\n)|(?:^|[.!?]\s+)(?:USER|ASSISTANT|SYSTEM|Human|Assistant):",
    re.MULTILINE | re.IGNORECASE,
)
THOUGHTS = re.compile(
    r"\b(?:the|this|my) caption (?:is|should|must|describes|reflects|focuses|captures|includes|mentions|avoids)\b"
    r"|\bthe user (?:wants|asks|asked|is asking|would like|has asked|provided)\b"
    r"|^(?:okay|ok|alright|so|well|hmm|first|now|let me|let's)\b[^.]{0,60}\bi (?:should|need to|must|will|have to)\b"
    r"|^(?:describe|write|answer|summari[sz]e) (?:this|the|one|a|an|in|with) (?:\w+ )?"
    r"(?:video|clip|image|sentence|paragraph|json|caption)\b",
    re.IGNORECASE,
)


class LeakConfig(BaseModel):
    """Finds control tokens, roles of a conversation, thoughts, and sentences of the prompt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def build(self) -> Check:
        return LeakCheck()


class LeakCheck(ProseCheck):
    """`leak`: told to write the caption alone."""

    remedies: ClassVar[Remedies] = {"leak": (Remedy.PROMPT,)}

    def of_text(self, text: str, record: CaptionRecord, evidence: Evidence) -> Iterator[Finding]:
        leaked = _marker(text) or _thought(text) or _of_prompt(text, record.prompt_text, evidence)
        if leaked:
            yield Finding(
                code="leak",
                status=CaptionStatus.REJECTED,
                detail=f"the text has more than the caption ({leaked})",
                remedy=Remedy.PROMPT,
                instruction="Write the caption and nothing else.",
            )


def _marker(text: str) -> str | None:
    found = MARKERS.search(text) or ROLES.search(unquoted(text))
    return f"control text {found[0].strip()!r}" if found else None


def _thought(text: str) -> str | None:
    found = next((sentence for sentence in sentences(unquoted(text)) if THOUGHTS.search(sentence)), None)
    return f"about the task {found[:60]!r}" if found else None


def _of_prompt(text: str, prompt: str, evidence: Evidence) -> str | None:
    """What the text repeats of the prompt's own words: what the prompt tells of the clip may be repeated."""
    for given in (evidence.fields, evidence.original, evidence.facts.sentence()):
        prompt = prompt.replace(given, "\n") if given else prompt
    searched = f" {normalized(text)} "
    for sentence in sentences(prompt):
        asked = words(sentence)
        if len(asked) >= MIN_SENTENCE_WORDS and f" {' '.join(asked)} " in searched:
            return f"the prompt's {sentence!r}"
        for start in range(len(asked) - NUM_SHARED_WORDS + 1):
            shared = " ".join(asked[start : start + NUM_SHARED_WORDS])
            if f" {shared} " in searched:
                return f"the prompt's {shared!r}"
    return None
