"""The blend: which of a clip's texts conditions a sample (Betker et al. 2023, "Improving Image Generation with Better
Captions", section 3.3).

Synthetic captions alone make a model that expects their style. A small share of other texts prevents that.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import accumulate
from types import MappingProxyType
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from curate.dataset.captions import CaptionLevel, level_of

ORDER: tuple[CaptionLevel, ...] = ("dense", "short", "human", "original")
"""Levels as validation and previews prefer them: an order that no weight changes, so that losses stay comparable."""

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class BlendConfig(BaseModel):
    """Weights of the levels of captions. For a clip, the weights of its own levels count, divided by their sum. A clip
    that has none of the levels is trained without a caption."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dense: Weight = Field(0.0, description="weight of captions that describe all that can be seen")
    short: Weight = Field(0.0, description="weight of captions that name the main subject")
    human: Weight = Field(0.0, description="weight of texts that people wrote in the review as a level of their own")
    original: Weight = Field(0.0, description="weight of the user's own texts")

    @model_validator(mode="after")
    def _some_level_is_drawn(self) -> "BlendConfig":
        if not self.levels:
            raise ValueError("got weights that are all 0; expected at least one above 0")
        return self

    @property
    def levels(self) -> tuple[CaptionLevel, ...]:
        """Those that can be drawn."""
        return tuple(level for level in ORDER if getattr(self, level))

    def shares(self, names: Iterable[str]) -> Mapping[str, float]:
        """Probability of each text of a clip, by its name; variants of a level are equally likely. Empty: no caption.

        Args:
            names: of the clip's texts, as `text_name` gives them.
        """
        return _shares(self, frozenset(names))

    def draw(self, names: Iterable[str], u: float) -> str | None:
        """The text that a number in [0, 1) means, by its name; None: no caption."""
        shares = self.shares(names)
        ends = zip(shares, accumulate(shares.values()), strict=True)
        return next((name for name, end in ends if u < end), next(reversed([*shares]), None))


DEFAULT_BLEND = BlendConfig(dense=0.6, short=0.35, human=0.05, original=0.05)
"""95 % synthetic captions (section 3.3); the rest is the user's own text, or a person's."""


@lru_cache(maxsize=4096)
def _shares(blend: BlendConfig, names: frozenset[str]) -> Mapping[str, float]:
    """Most clips have the same names as others."""
    texts = ordered(names)
    counts = Counter(map(level_of, texts))
    weights = {name: getattr(blend, level_of(name)) / counts[level_of(name)] for name in texts}
    total = sum(weights.values())
    return MappingProxyType({name: weight / total for name, weight in weights.items() if weight})


def ordered(names: Iterable[str]) -> list[str]:
    """Those of the names whose texts can condition a model, by level in `ORDER`, then by variant."""
    texts = [name for name in names if level_of(name) in ORDER]
    return sorted(texts, key=lambda name: (ORDER.index(level_of(name)), len(name), name))


def reference_text(names: Iterable[str]) -> str | None:
    """The text under which a clip is validated and sampled; None: no caption. Variants come after all other texts."""
    return min(ordered(names), key=lambda name: "." in name, default=None)
