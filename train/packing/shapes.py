"""Sizes of patches and windows. Settings name them, so nothing here needs torch."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Patch: TypeAlias = tuple[int, int, int]
"""Size of a patch in latent frames, rows and columns; or of a grid in patches along (t, h, w)."""

WindowSize: TypeAlias = tuple[int | None, int | None, int | None]
"""In patches along (t, h, w); None: the whole side."""


ScanOrder: TypeAlias = Literal["thw", "twh", "htw", "hwt", "wth", "wht"]
"""Order of the patches of a sample: by these axes, the slowest first. Patches are stored in `thw`."""
STORED: ScanOrder = "thw"


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """Tokens of a sample that see each other: those whose positions fall into the same box."""

    size: WindowSize
    shifted: bool = False  # boxes begin half a size earlier
    images_alone: bool = False  # in a sample of one frame each patch sees itself
    order: ScanOrder = STORED  # of a box's patches, for mixers that read them one after the other
    backward: bool = False  # from the last patch to the first
    sparse_causal: bool = False  # of boxes of one frame: its tokens see the first frame and the one before, not theirs


WHOLE = Window(size=(None, None, None))
SPATIAL = Window(size=(1, None, None))
TEMPORAL = Window(size=(None, 1, 1))
SPARSE_CAUSAL = Window(size=(1, None, None), sparse_causal=True)

BlockWindows: TypeAlias = tuple[tuple[Window, ...], ...]
"""For each token mixer of a block, the windows that its heads are split over."""

SHOWN = "shown"
"""Name of the conditioning latent that patches are embedded with, beside the noisy channels."""
LONE_FRAMES = "lone_frames"
"""Name of the conditioning latent of frames that are encoded alone: C channels, and one that is 1 where one is."""
