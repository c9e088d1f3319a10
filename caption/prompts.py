"""Prompts, by versioned name. A changed wording is a new name: records say by which one they were written."""

from dataclasses import dataclass
from types import MappingProxyType

from curate.dataset.captions import CaptionKind
from curate.schema import content_digest


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """What a model is asked after it was shown the frames."""

    id: str
    text: str

    @property
    def digest(self) -> str:
        return content_digest("prompt", self.text)


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptSet:
    """One prompt for each kind of caption."""

    short: Prompt
    dense: Prompt

    def of(self, kind: CaptionKind) -> Prompt:
        return self.short if kind == "short" else self.dense


PLAIN_V1 = PromptSet(
    short=Prompt(id="plain-v1/short", text="Describe this video briefly."),
    dense=Prompt(id="plain-v1/dense", text="Describe this video in detail."),
)
"""For the embedded captioner, which was trained on exactly these words; any other model understands them too."""

DETAILED_V1 = PromptSet(
    short=Prompt(
        id="detailed-v1/short",
        text=(
            "These are frames of one video clip, in order. Write one plain sentence of at most 20 words that says "
            "what the clip shows: the main subject and what it does. Only the sentence, no introduction."
        ),
    ),
    dense=Prompt(
        id="detailed-v1/dense",
        text=(
            "These are frames of one video clip, in order. Describe the clip in one paragraph of 60 to 120 words: "
            "the subjects and how they look, what they do from the beginning to the end, the background, the light "
            "and the style, and how the camera moves. Only what can be seen: no guesses, no introduction, no mention "
            "of frames."
        ),
    ),
)
"""For vision–language models of two billion weights and more."""

PROMPT_SETS = MappingProxyType({"plain-v1": PLAIN_V1, "detailed-v1": DETAILED_V1})
