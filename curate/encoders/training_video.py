"""The video that the embedded models are trained on, and the part of it that they never see.

It is Big Buck Bunny (c) 2008 Blender Foundation, CC BY 3.0, https://peach.blender.org. Training uses its first 480 s
without the excerpts of the demo.
"""

FPS = 24
NUM_FRAMES = 480 * FPS
"""Frames that are used at all; the rest is left for last checks of generalization."""
EXCERPTS = ((4463, 5809), (6168, 6488))
"""Half-open frame ranges of the demo's excerpts: held out of training."""


def is_held_out(start: int, end: int) -> bool:
    """Whether frames [start, end) touch an excerpt or what follows the part that is used."""
    return end > NUM_FRAMES or any(start < b and end > a for a, b in EXCERPTS)
