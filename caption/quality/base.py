"""What a check of captions is."""

from collections.abc import Iterable

import numpy as np

from caption.record import CaptionRecord, Finding


class Check:
    """A check overrides the hook for what it looks at. Constructors are cheap and the object can be pickled."""

    def setup(self) -> None:
        """Load what the check needs; called once per worker, before the first clip."""

    def of_frames(self, frames: np.ndarray) -> Iterable[Finding]:
        """Findings before the model is asked. It is not asked where the status of one is not usable.

        Args:
            frames: (T, H, W, 3) uint8 RGB, those that the model would see.
        """
        return ()

    def of_caption(self, record: CaptionRecord, frames: np.ndarray) -> Iterable[Finding]:
        """Findings after the model has answered.

        Args:
            record: the caption without the findings of this hook.
            frames: (T, H, W, 3) uint8 RGB, those that the model has seen.
        """
        return ()
