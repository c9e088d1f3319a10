"""HDR frames coded by absolute luminance (PQ, SMPTE ST 2084), made fit for a standard screen.

Shown as they are, they look gray and flat. HLG needs no such thing: it was made to be shown as it is.
"""

from functools import cache

import numpy as np

PQ_TRANSFER = 16  # AVCOL_TRC_SMPTE2084

M1, M2 = 2610 / 16384, 2523 / 4096 * 128
C1, C2, C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
"""Constants of ST 2084."""

WHITE_NITS = 203
"""Of a white sheet (ITU-R BT.2408)."""

PEAK_NITS = 1000
"""Luminance, cd/m², that becomes the brightest white: most HDR videos are mastered for it."""

DISPLAY_GAMMA = 2.4
"""Of a standard screen (ITU-R BT.1886)."""


def tone_mapped(rgb: np.ndarray) -> np.ndarray:
    """`(H, W, 3)` uint16 of PQ code values → uint8 for BT.709 screens.

    Reinhard's curve with a white point (Reinhard et al. 2002, "Photographic Tone Reproduction", equation 4), on each
    channel alone. The primaries are not converted: saturated colors of BT.2020 become paler.
    """
    return _curve()[rgb]


@cache
def _curve() -> np.ndarray:
    """`(65536,)` uint8."""
    code = (np.arange(2**16) / (2**16 - 1)) ** (1 / M2)
    nits = 10_000 * (np.maximum(code - C1, 0) / (C2 - C3 * code)) ** (1 / M1)
    light, peak = nits / WHITE_NITS, PEAK_NITS / WHITE_NITS
    shown = np.minimum(light * (1 + light / peak**2) / (1 + light), 1)
    return np.rint(255 * shown ** (1 / DISPLAY_GAMMA)).astype(np.uint8)
