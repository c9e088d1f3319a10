"""Texts that give orders to a language model instead of describing something.

Known phrasings are found, and no list is complete: prompts quote the user's text as data, too.
"""

import re
import unicodedata

TEMPLATE_TOKEN = re.compile(
    r"<\|[^<>|\n]{1,40}\|>|\[/?INST\]|<</?SYS>>|</?(?:start|end)_of_turn>|</?think>|</?(?:bos|eos)>|\A\s*<s>"
    r"|<(?:image|video|img_context)>",
    re.IGNORECASE,
)
"""Control tokens of chat templates."""

_WORDS = r"(?:\W+\w+){0,4}?\W+"
_VERB = r"(?:ignore|disregard|forget|override|bypass)"
_ORDER = r"(?:instructions?|prompts?|guidelines|directions)"
ORDERS = tuple(
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        rf"\b{_VERB}\b{_WORDS}(?:previous|prior|above|earlier|preceding|all|any|your|system)\b{_WORDS}{_ORDER}\b",
        rf"\b{_VERB}\s+(?:everything|anything|all|the\s+text)\s+(?:above|before|so\s+far)\b",
        r"\b(?:reveal|print|repeat|output|leak|show)\b(?:\W+\w+){0,3}?\W+(?:system|hidden|initial)\s+(?:prompt|instructions)\b",
        r"\b(?:you\s+are\s+(?:now\s+)?|act\s+as\s+|pretend\s+to\s+be\s+)an?\s+(?:ai|assistant|language\s+model|chatbot)\b",
        r"\b(?:respond|reply|answer|output)\s+(?:only|exactly|solely)\b",
        r"\b(?:do\s+not|don't|instead\s+of)\s+(?:describ|caption)(?:e|ing)\b",
        r"^[^\w\n]{0,10}(?:system|assistant)\s*:",
        r"^[^\w\n]{0,10}(?:user|human)\s*:(?s:.*)^[^\w\n]{0,10}(?:ai|bot|assistant)\s*:",
        r"^#+[ \t]*(?:instructions?|system|response|input)\b[ \t]*:?[ \t]*$",
        r"\bnew\s+instructions?\s*:",
        r"\bignor(?:iere|ieren\s+sie)\b.{0,40}\banweisungen\b",
        r"\bignor(?:a|e|ez)\b.{0,40}\binstruc(?:ciones|tions|ções)\b",
        r"(?:忽略|无视).{0,12}(?:指令|提示|指示)",
        r"игнорируй.{0,40}(?:инструкци|указани)",
    )
)


def injection_in(text: str) -> str | None:
    """What in a text addresses a model: the passage, shortened; None: nothing.

    Args:
        text: with its markup and line ends, without hidden characters (`plain_text.visible`).
    """
    folded = unicodedata.normalize("NFKC", text)  # full-width and mathematical letters are letters
    for pattern in (TEMPLATE_TOKEN, *ORDERS):
        if found := pattern.search(folded):
            return " ".join(found[0].split())[:60]
    return None
