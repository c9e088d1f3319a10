"""Prompts with an ending in the style of a run, chosen by the embedded language model.

135 M weights are too few to write a caption that keeps to a prompt: their sentences name another cat, or loop. So the
prompt stays as it is, and the model chooses which sentence of the run's own captions, about shot, camera and light,
fits it. A prompt that says itself how the video is filmed gets none.
"""

import random
import re
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from caption.backends.base import FailedRequest
from caption.kept_words import content_words
from caption.llava.language import EmbeddedLanguageModel
from caption.prompt_examples import PromptExamples
from curate.schema import FailureKind

NUM_DRAWN = 4
"""Attempts after the first draw among as many endings that fit best."""
NUM_COMPARED = 4
"""Short captions that a prompt is compared with."""
FILMED = re.compile(
    r"\b(?:shot|close-?up|camera|aerial|angle|view|zoom\w*|pan\w*|time-?lapse|slow motion|macro|pov)\b", re.I
)
TIME = re.compile(
    r"\b(?:night|dusk|dawn|sun\w*|evening|morning|noon|midnight|moon\w*|dark\w*|light\w*|storm\w*|rain\w*|fog\w*|snow\w*"
    r"|star\w*|space|indoors?|inside|cave|underwater|room|kitchen|studio)\b",
    re.I,
)
"""Words of a prompt that say something of the light."""
LIGHT = re.compile(r"light|sun|day|morning|evening|night|dark|dusk|dawn|shad|bright|haz", re.I)
"""Words of an ending about light."""


class Language(Protocol):
    """`EmbeddedLanguageModel`."""

    def setup(self) -> None: ...

    def log_likelihoods(self, text: str, endings: Sequence[str]) -> list[float]: ...


class EndingWriter:
    """See `caption.upsample.Writer`."""

    def __init__(self, device: str = "auto", language: Language | None = None) -> None:
        self.language = language or EmbeddedLanguageModel(device)
        self._usual: dict[tuple[str, ...], np.ndarray] = {}

    def setup(self) -> None:
        self.language.setup()

    def write(self, prompt: str, examples: PromptExamples, draw: random.Random, attempt: int) -> str | FailedRequest:
        endings = [ending for ending in examples.endings if not _is_said(prompt, ending)]
        if not endings:
            detail = (
                "the prompt says how the video is filmed"
                if examples.endings
                else (
                    "the run's captions have no endings in common; a larger model rewrites prompts: "
                    "--set upsample.backend.model=MODEL"
                )
            )
            return FailedRequest(kind=FailureKind.REFUSED, detail=detail)
        fits = dict(zip(examples.endings, self._fits(prompt, examples), strict=True))
        best = sorted(endings, key=lambda ending: -fits[ending])[:NUM_DRAWN]
        return f"{sentence(prompt)} {draw.choice(best) if attempt else best[0]}"

    def _fits(self, prompt: str, examples: PromptExamples) -> list[float]:
        """How much likelier each ending is after the prompt than after short captions of the run: without the
        difference the ending that is likely in general would always be chosen."""
        if examples.endings not in self._usual:
            shorts = [short for short, _ in examples.pairs][:: max(1, len(examples.pairs) // NUM_COMPARED)]
            likelihoods = [
                self.language.log_likelihoods(sentence(short), examples.endings) for short in shorts[:NUM_COMPARED]
            ]
            self._usual[examples.endings] = np.mean(likelihoods, 0)
        found = np.array(self.language.log_likelihoods(sentence(prompt), examples.endings))
        fits: list[float] = (found - self._usual[examples.endings]).tolist()
        return fits


def sentence(text: str) -> str:
    """With a capital first letter and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?", "…", "。", "！", "？")) else ".")


def _is_said(prompt: str, ending: str) -> bool:
    """Whether the prompt says already what the ending is about."""
    return bool(
        FILMED.search(prompt)
        or (TIME.search(prompt) and LIGHT.search(ending))
        or set(content_words(prompt)) & set(content_words(ending))
    )
