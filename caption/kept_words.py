"""Does a longer text still say what a prompt says: its words, numbers, quoted text and negations?"""

import re
from collections.abc import Iterator

QUOTED = re.compile(r"[\"“”„«»]([^\"“”„«»]+)[\"“”„«»]")
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_STOP_WORDS = """
a an the and or but of in on at to from by with into onto over under for as is are was were be been being it its this
that these those there here he she they his her their them him i you we my your our who which what while then than so
very some any do does did has have had can will would should may up down out off just also please
video clip film footage shot show shows showing make create generate
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
NEGATIONS = frozenset(("no", "not", "without", "never", "none", "nobody", "nothing", "neither", "nor", "cannot"))
_NUMBERS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty
"""
NUMBERS = {word: str(value) for value, word in enumerate(_NUMBERS.split())}
NEGATION_REACH = 3
"""Words after a negation that it is about."""
NUMBER_REACH = 3
"""Words between a number and what it counts."""


def changes(prompt: str, text: str) -> list[str]:
    """What of the prompt the text lacks, negates or counts otherwise, one phrase each; empty: it says the same."""
    return [*_lost(prompt, text), *_negated_otherwise(prompt, text), *_counted_otherwise(prompt, text)]


def content_words(text: str) -> list[str]:
    """Words that carry meaning, as they are compared: lower case, endings off, numbers as digits."""
    return [stem(word) for word in words_of(text) if word not in STOP_WORDS and not is_negation(word)]


def words_of(text: str) -> list[str]:
    return [word.replace("’", "'") for word in WORD.findall(text.lower())]


def is_negation(word: str) -> bool:
    return word in NEGATIONS or word.endswith("n't")


def stem(word: str) -> str:
    """Without the endings of plurals and verbs: enough to see one word in two forms."""
    word = NUMBERS.get(word, word).removesuffix("'s")
    for ending in ("ing", "ies", "es", "ed", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            word = word.removesuffix(ending)
            is_doubled = ending in ("ing", "ed") and word[-1] == word[-2]
            word = word[:-1] if is_doubled else word
            break
    return word.rstrip("eyi") if len(word) > 3 else word


def _lost(prompt: str, text: str) -> Iterator[str]:
    for quoted in QUOTED.findall(prompt):
        if quoted not in text:
            yield f"the quoted text {quoted!r}"
    have, folded = set(content_words(text)), text.lower()
    for word in dict.fromkeys(words_of(prompt)):
        is_needed = word not in STOP_WORDS and not is_negation(word)
        # Scripts without spaces: a run of letters is no word.
        if is_needed and stem(word) not in have and (word.isascii() or word not in folded):
            yield f"the word {word!r}"


def _negated(text: str) -> tuple[set[str], set[str]]:
    """Content words that a negation is about, and those that stand without one."""
    negated: set[str] = set()
    plain: set[str] = set()
    for sentence in re.split(r"[.!?;,]+", text):
        left = 0
        for word in words_of(sentence):
            left = NEGATION_REACH + 1 if is_negation(word) else left - 1
            if word not in STOP_WORDS and not is_negation(word):
                (negated if left > 0 else plain).add(stem(word))
    return negated, plain


def _negated_otherwise(prompt: str, text: str) -> Iterator[str]:
    (asked, meant), (negated, plain) = _negated(prompt), _negated(text)
    for word in sorted(asked - meant):
        if word not in negated or word in plain:
            yield f"the negation of {word!r}"
    for word in sorted((meant - asked) & negated):
        yield f"{word!r}, which is negated now"


def _counted_otherwise(prompt: str, text: str) -> Iterator[str]:
    asked = _counts(prompt)
    named = set(content_words(prompt))
    for word, numbers in _counts(text).items():
        if word in named and numbers - asked.get(word, set()):
            yield f"how many {word!r} there are"


def _counts(text: str) -> dict[str, set[str]]:
    """Content word → the numbers shortly before it."""
    counts: dict[str, set[str]] = {}
    for sentence in re.split(r"[.!?;,]+", text):
        words = words_of(sentence)
        for place, word in enumerate(words):
            number = NUMBERS.get(word, word)
            if number.isdigit():
                for counted in words[place + 1 : place + 1 + NUMBER_REACH]:
                    counts.setdefault(stem(counted), set()).add(number)
    return counts
