"""The size that a clip is scaled to before it is encoded."""

import math

AREA_WEIGHT = 0.5
"""How much a lost share of the area weighs against an equal change of the aspect ratio (both as logarithms)."""


def multiple_of(multiple_px: int, spatial_stride: int) -> int:
    """Of which sides are multiples: of the setting, and of what the autoencoder takes."""
    return math.lcm(multiple_px, spatial_stride)


def target_size(height: int, width: int, *, max_area_px: int, multiple_px: int) -> tuple[int, int]:
    """Height and width, multiples of `multiple_px` within `max_area_px`, nearest to the clip's shape and area.

    Resizing to them changes the aspect ratio slightly. Worst cases over shapes from 1:3 to 3:1 with multiples of 16:
    4 % at 512 x 512 px, 8 % at 256 x 256, 20 % at 128 x 80. A clip of which not even one multiple fits gets one.
    """
    unit = multiple_px
    area = min(max_area_px, height * width)
    aspect = math.log(width / height)

    def cost(size: tuple[int, int]) -> float:
        h, w = size
        return abs(math.log(w / h) - aspect) + AREA_WEIGHT * abs(math.log(w * h / area))

    num_units = max(1, area // unit**2)
    sizes = []
    for rows in range(1, num_units + 1):
        ideal = rows * math.exp(aspect)
        for columns in {math.floor(ideal), math.ceil(ideal), num_units // rows}:
            columns = min(max(1, columns), num_units // rows)
            sizes.append((rows * unit, columns * unit))
    return min(sizes, key=cost)
