"""The family of cheap signals: one line per member."""

from curate.signals.base import FrameSignal
from curate.signals.fade import FadeSignal
from curate.signals.flash import FlashSignal
from curate.signals.freeze import FreezeSignal
from curate.signals.interlaced import InterlacedSignal
from curate.signals.letterbox import LetterboxSignal
from curate.signals.luminance import LuminanceSignal
from curate.signals.motion import MotionSignal
from curate.signals.sharpness import SharpnessSignal

SIGNALS: tuple[type[FrameSignal], ...] = (
    MotionSignal,
    SharpnessSignal,
    LuminanceSignal,
    FreezeSignal,
    FlashSignal,
    FadeSignal,
    LetterboxSignal,
    InterlacedSignal,
)
SIGNAL_NAMES = tuple(name for signal in SIGNALS for name in signal.columns)
