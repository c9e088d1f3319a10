"""Every column that a policy can rule, without the user's own: facts of the scan, signals, scores,
the text–clip score.

Each is declared where it is computed. This module collects them; nothing is added here for a new scorer or signal.
"""

from collections.abc import Mapping
from types import MappingProxyType

from curate.dataset.captions import MATCH
from curate.rules import Column, Rule
from curate.scores.config import SCORERS
from curate.signals.config import SIGNALS

FACTS: Mapping[str, Column] = MappingProxyType(
    {
        "duration_s": Column(
            description="length of the clip, s", range=(0, float("inf")), default=Rule(min=1.0), for_images=False
        ),
        "short_side_px": Column(
            description="shorter side of the frame, px", range=(1, float("inf")), default=Rule(min=64)
        ),
        "bitrate": Column(description="of the whole file, bits per second", range=(0, float("inf"))),
    }
)
"""What the scan knows of a clip without looking at its frames."""

SIGNAL_COLUMNS: Mapping[str, Column] = MappingProxyType(
    {name: column for signal in SIGNALS for name, column in signal.columns.items()}
)
SCORE_COLUMNS: Mapping[str, Column] = MappingProxyType(
    {name: column for scorer in SCORERS for name, column in scorer.columns.items()}
)
CAPTION_SCORES: Mapping[str, Column] = MappingProxyType(
    {
        MATCH: Column(
            description="match of the dense caption, or else the short one, with the frames, cosine (text–clip score)",
            range=(-1, 1),
            is_required=False,
        )
    }
)
"""Known after `caption` only. Clips are captioned once they are kept, so they cannot wait for these."""
COLUMNS: Mapping[str, Column] = MappingProxyType({**FACTS, **SIGNAL_COLUMNS, **SCORE_COLUMNS, **CAPTION_SCORES})


def default_rules() -> dict[str, Rule]:
    """Column → the rule that it declares, for those that declare one."""
    return {name: column.default for name, column in COLUMNS.items() if column.default.sides}
