"""What a run keeps of its captions, so that prompts can be written in their style: pairs of short and dense captions,
and the sentences about how a video is filmed that many of them end with."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median

from caption.kept_words import content_words, is_negation, words_of

NUM_PAIRS = 32
NUM_ENDINGS = 16
MIN_SHARE, MIN_CAPTIONS = 0.05, 2
"""A word of style is in this share, and in this number, of the dense captions."""
MAX_SHORT = 0.2
"""Captions with a word of style whose short caption has it, at most: short captions name subjects."""
SENTENCE = re.compile(r"[^.!?…。！？]+[.!?…。！？]+[\"'”’)]*")
OF_A_SUBJECT = frozenset(("it", "its", "he", "his", "she", "her", "they", "their", "him", "them"))


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptExamples:
    """How the captions of a run's dataset are.

    Attributes:
        pairs: Short and dense caption of one clip each, evenly over the lengths of the dense captions.
        endings: Sentences of dense captions about shot, camera and light, the most frequent first.
        dense_words: Median length of the dense captions, words.
    """

    pairs: tuple[tuple[str, str], ...]
    endings: tuple[str, ...]
    dense_words: float

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "PromptExamples":
        """The inverse of `to_json`.

        Raises:
            ValueError: the text is something else.
        """
        try:
            found = json.loads(text)
            pairs = tuple((str(short), str(dense)) for short, dense in found["pairs"])
            endings = tuple(map(str, found["endings"]))
            return cls(pairs=pairs, endings=endings, dense_words=float(found["dense_words"]))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"got no pairs of captions ({error!r}); expected what `reelpack train` writes") from error


def choose_examples(pairs: Sequence[tuple[str, str]]) -> PromptExamples | None:
    """What to keep of short and dense captions; None: there are none."""
    known = sorted(set(pairs), key=lambda pair: (len(pair[1]), pair))
    if not known:
        return None
    count = min(len(known), NUM_PAIRS)
    return PromptExamples(
        pairs=tuple(known[at * len(known) // count] for at in range(count)),
        endings=tuple(style_endings(known)),
        dense_words=median(len(words_of(dense)) for _, dense in known),
    )


def style_endings(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Sentences after the first of dense captions that name no subject: each of their words is in many dense captions
    and in few of the short ones, which tell who does what. The most frequent first, without beginnings of others."""
    of_dense = Counter(word for _, dense in pairs for word in set(content_words(dense)))
    of_short = Counter(word for short, _ in pairs for word in set(content_words(short)))
    least = max(MIN_CAPTIONS, MIN_SHARE * len(pairs))
    style = {word for word, count in of_dense.items() if count >= least and of_short[word] <= MAX_SHORT * count}
    found: Counter[str] = Counter()
    for _, dense in pairs:
        for sentence in map(str.strip, SENTENCE.findall(dense)[1:]):
            words, names = words_of(sentence), set(content_words(sentence))
            if names and names <= style and not OF_A_SUBJECT & set(words) and not any(map(is_negation, words)):
                found[sentence] += 1
    whole = [one for one, _ in found.most_common() if not any(_begins(one, other) for other in found)]
    return whole[:NUM_ENDINGS]


def _begins(sentence: str, other: str) -> bool:
    """Whether another sentence says the same and more."""
    start = sentence.rstrip(".!?…。！？")
    return "," not in start and other.startswith(f"{start},")
