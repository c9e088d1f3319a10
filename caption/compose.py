"""Captions composed from fields, without a model.

One set of fields gives many captions: variants leave details out and put them in another order, so that a model that
is trained on them understands prompts of any length and order. HunyuanVideo has structured captions, too (arXiv
2412.03603).
"""

import random
import re
from collections.abc import Iterable, Sequence

from caption.fields import CaptionFields

COMPOSER = "compose-v1"
"""Version of the wording."""

DROP_PROBABILITY = 0.3
"""Of each detail of a variant; subjects and actions are never left out."""

LATE_PROBABILITY = 0.3
"""That a variant tells a detail before the subjects and their actions."""

MAX_DRAWS = 32
"""Draws for a variant that differs from those before it."""

MAX_SHORT_WORDS = 24
"""Of a short caption; a longer one does without the subject's looks."""

DETERMINERS = (
    "a|an|the|one|two|three|four|five|six|seven|eight|nine|ten|several|some|many|few|both|his|her|its|their|this|these|"
    "another"
)
PREPOSITIONS = "in|on|at|inside|outside|under|near|by|along|beside|between|behind|over|above|from|against|during"
BEGINS_PHRASE = re.compile(rf"(?:{DETERMINERS}|{PREPOSITIONS})\b", re.IGNORECASE)
NO_NAME = re.compile(
    rf"(?:{DETERMINERS}|{PREPOSITIONS}|to|into|out|up|down|off|through|across|around|away|back|and)\b", re.IGNORECASE
)
"""Words that begin no name: what stands after a verb, too."""
CLAUSE = re.compile(
    r"\b(?:is|are|was|were|has|have|takes|shows|features|remains|stays|moves|follows|pans|tilts|zooms|rolls|turns)\b",
    re.IGNORECASE,
)
LIGHT = re.compile(r"\w*light\w*|\w*lit|sun\w*|shadows?|glow|lamps?|illumination|rays?", re.IGNORECASE)
HEAD_ENDS = re.compile(r",|\s(?:in|with|on|at|of|who|that|wearing|holding|and|near|by|from|carrying)\s")
CAMERA_MOVE = re.compile(
    r"(?P<slow>slow(?:ly)?\s+)?(?P<move>pan|tilt|zoom|roll|dolly|truck|push|pull|track)(?:n?ing|ming|s)?(?:\s+shot)?\s+"
    r"(?P<way>left|right|up|down|in|out|forward|back)"
)
QUOTED = re.compile(r"""\A["'“„«](.*)["'”“»]\Z""", re.DOTALL)
THIRD_PERSON = {"dolly": "dollies", "push": "pushes"}
CAMERA_STATES = {"static": "is static", "still": "is static", "fixed": "is static", "handheld": "is handheld"}


def compose(fields: CaptionFields, *, key: str, variant: int) -> str:
    """A paragraph of plain sentences, equal for equal arguments.

    Subjects stand before their actions, which keep the order of time. Variant 0 tells all, in the order of the fields.
    Other variants leave details out and move them, by draws of `key` and their number, and differ from one another
    where the fields allow it.

    Args:
        key: Of the draws, such as the clip's id.
        variant: Number from 0 on.
    """
    texts: list[str] = []
    for number in range(variant + 1):
        for attempt in range(MAX_DRAWS):
            text = _paragraph(fields, random.Random(f"{key}/{number}/{attempt}"), is_varied=number > 0)
            if text not in texts:
                break
        texts.append(text)
    return texts[variant]


def short_of(fields: CaptionFields) -> str:
    """One sentence: the main subject and what it does first, or the scene; empty without any of them."""
    subjects, actions = _items(fields.subjects), _items(fields.actions)
    if not actions:
        return _sentence(next(iter(subjects), fields.scene or ""))
    if not subjects:
        return _sentence(actions[0])
    clause = _predicate_of(subjects[0], actions[:1]) or _with_looks(subjects[0], actions[0])
    return _sentence(clause if len(clause.split()) <= MAX_SHORT_WORDS else actions[0])


def _paragraph(fields: CaptionFields, draw: random.Random, *, is_varied: bool) -> str:
    core, details = _core(_items(fields.subjects), _items(fields.actions)), _details(fields, draw)
    first = 0
    if is_varied:
        kept = [detail for detail in details if draw.random() >= DROP_PROBABILITY]
        details = kept if kept or core else details
        draw.shuffle(details)
        first = 1 if draw.random() < LATE_PROBABILITY else 0
    return " ".join([*details[:first], *core, *details[first:]])


def _core(subjects: Sequence[str], actions: Sequence[str]) -> list[str]:
    """Sentences of who does what, in the order of time."""
    if len(subjects) == 1 and (clause := _predicate_of(subjects[0], actions)):
        return [_sentence(clause)]
    return [_sentence(text) for text in ((_listed(subjects), *actions) if subjects else actions)]


def _details(fields: CaptionFields, draw: random.Random) -> list[str]:
    """A sentence of each detail that the fields have."""
    said = (
        _phrase(fields.scene, draw.choice(("The setting is {}", "The scene is {}")), BEGINS_PHRASE),
        _camera(fields.camera),
        fields.shot_size and draw.choice(("The framing is {}", "{}")).format(_with_article(fields.shot_size)),
        _light(fields.light, draw),
        _style(fields.style),
        _visible(fields.visible_text),
    )
    return [_sentence(text) for text in said if text]


def _phrase(text: str | None, lead: str, begins: re.Pattern[str] = re.compile("")) -> str:
    """A clause as it is; a phrase after the lead where it begins so that this is grammatical, or else by itself."""
    text = _bare(text or "")
    if not text or CLAUSE.search(text) or not begins.match(text):
        return text
    return lead.format(_lowered(text))


def _camera(text: str | None) -> str:
    """`pan left, zoom in` → The camera pans left and zooms in."""
    text = _bare(text or "")
    clauses: list[str] = []
    for part in re.split(r"\s*(?:,|;|\band\b)\s*", text.lower().removeprefix("the camera ").removesuffix(" camera")):
        state, move = CAMERA_STATES.get(part.replace("hand-held", "handheld")), CAMERA_MOVE.fullmatch(part)
        if move:
            verb = THIRD_PERSON.get(move["move"], f"{move['move']}s")
            clauses.append(f"{verb} {'slowly ' if move['slow'] else ''}{move['way']}")
        elif state:
            clauses.append(state)
        else:
            return f"The camera {_lowered(text, always=True)}" if text and _form(text, ()) == "s" else text
    return f"The camera {_listed(clauses)}"


def _light(text: str | None, draw: random.Random) -> str:
    """`soft daylight` → There is soft daylight; `bright and warm` → The light is bright and warm."""
    text = _bare(text or "")
    lead = draw.choice(("There is {}", "{}")) if LIGHT.search(text) else "The light is {}"
    return text if CLAUSE.search(text) else text and lead.format(_lowered(text, always=True))


def _style(text: str | None) -> str:
    """`oil painting` → The style is oil painting; `Bauhaus`, which may be a name → Bauhaus style."""
    text = _bare(text or "")
    if text[:1].isupper():
        return text if CLAUSE.search(text) or "style" in text.lower() else f"{text} style"
    return _phrase(text, "The style is {}")


def _visible(texts: Sequence[str]) -> str:
    bare = dict.fromkeys(QUOTED.sub(r"\1", text.strip()).replace('"', "'") for text in texts)
    quoted = [f'"{text}"' for text in bare if text]
    return f"The text{'s' if len(quoted) > 1 else ''} {_listed(quoted)} can be read" if quoted else ""


def _predicate_of(subject: str, actions: Sequence[str]) -> str:
    """One sentence of a subject and actions that begin with their verb; empty where they do not, or differ in form."""
    if not actions:
        return ""
    forms = {_form(action, subject.lower().split()) for action in actions}
    said = _listed([_lowered(action, always=True) for action in actions])
    if forms == {"s"}:
        return f"{subject} {said}"
    if forms == {"ing"}:
        return f"{subject} is {said}" if re.match(r"(?:an?|one)\b", subject, re.IGNORECASE) else f"{subject}, {said}"
    return ""


def _form(action: str, subject_words: Sequence[str]) -> str:
    """`ing` for walking down a street, `s` for walks down a street, empty for what begins with its subject."""
    first, _, rest = action.lower().partition(" ")
    if first in subject_words or CLAUSE.match(rest) or NO_NAME.match(first):
        return ""
    if re.fullmatch(r"\w{2,}ing", first) and not first.endswith("thing"):
        return "ing"
    is_verb = re.fullmatch(r"\w+[^s\W]s", first) and (not rest or NO_NAME.match(rest) or re.match(r"\w+ly\b", rest))
    return "s" if is_verb else ""


def _with_looks(subject: str, action: str) -> str:
    """`a woman in red`, `The woman sings` → a woman in red sings."""
    noun = HEAD_ENDS.split(subject)[0].split()[-1]
    begins = re.match(rf"(?:the|an?)\s+{re.escape(noun)}\s+(?=\w)", action, re.IGNORECASE)
    return f"{subject} {action[begins.end() :]}" if begins else action


def _items(texts: Iterable[str]) -> list[str]:
    """Without their final punctuation, and without neighbors that say the same."""
    bare = [text for text in map(_bare, texts) if text]
    return [text for at, text in enumerate(bare) if at == 0 or text.lower() != bare[at - 1].lower()]


def _listed(items: Sequence[str]) -> str:
    """`a, b and c`; with semicolons where an item has commas."""
    first, *others = [item if at == 0 else _lowered(item) for at, item in enumerate(items)]
    if not others:
        return first
    if any("," in item or " and " in item for item in items):
        return "; ".join([first, *others])
    return f"{', '.join([first, *others[:-1]])} and {others[-1]}"


def _lowered(text: str, *, always: bool = False) -> str:
    """With a small first letter, unless it may be a name."""
    return text[0].lower() + text[1:] if always or NO_NAME.match(text) else text


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _bare(text: str) -> str:
    return " ".join(text.split()).rstrip(" .,;:").lstrip(" .,;:-•*")


def _sentence(text: str) -> str:
    text = _bare(text)
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('!', '?')) else '.'}" if text else ""
