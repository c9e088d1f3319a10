"""Is a codebook used? One that has collapsed puts most positions on a few codes."""

import logging
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

logger = logging.getLogger(__name__)

PERIOD = 100
"""Steps over which the use of the codes is averaged."""
FEW = 0.1
"""Share of the codes that batches could use, below which a codebook has collapsed."""
REMEDY = (
    "a smaller codebook, train_autoencoder.network.bottleneck.revive_below, a lower train_autoencoder.optimizer.lr or "
    "an FSQ bottleneck use more of them"
)


def used_share(rows: Iterable[Mapping[str, Any]]) -> float | None:
    """Codes that occur in batches, over those that could: a batch has no more codes than positions. The mean over the
    rows of steps; None where no codes are learned."""
    learned = (row for row in rows if "commitment" in row and "code_usage_limit" in row)
    shares = [row["code_usage"] / row["code_usage_limit"] for row in learned]
    return sum(shares) / len(shares) if shares else None


class CollapseWatch:
    """Warns once a codebook collapses, and again if it recovers and collapses."""

    def __init__(self) -> None:
        self._recent: deque[Mapping[str, Any]] = deque(maxlen=PERIOD)
        self._has_collapsed = False

    def see(self, row: Mapping[str, Any]) -> None:
        """A row of a step."""
        self._recent.append(row)
        share = used_share(self._recent)
        if share is None or row["step"] % PERIOD or len(self._recent) < PERIOD:
            return
        if share < FEW and not self._has_collapsed:
            logger.warning(
                "step %d: batches of the last %d steps used %.1f %% of the codes that they could (%.2f %% of all); %s",
                row["step"], PERIOD, 100 * share, 100 * row["code_usage"], REMEDY,
            )  # fmt: skip
        self._has_collapsed = share < FEW
