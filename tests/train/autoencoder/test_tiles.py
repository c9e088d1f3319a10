"""Tiles: they cover a side, seams are blended, and memory is that of a tile."""

from itertools import pairwise

import pytest
import torch

from train.autoencoder.tiles import spans, tiled


@pytest.mark.parametrize(
    ("length", "tile", "multiple"), [(64, 64, 8), (65 * 8, 128, 8), (17, 5, 1), (9, 3, 3), (100, 30, 1)]
)
def test_tiles_cover_a_side_and_overlap(length: int, tile: int, multiple: int) -> None:
    found = spans(length, tile, multiple)
    assert (found[0][0], found[-1][1]) == (0, length)
    for (start, end), (next_start, _) in pairwise(found):
        assert start < next_start <= end
    assert len({end - start for start, end in found}) == 1
    assert all(start % multiple == 0 and end - start <= max(tile, multiple) for start, end in found)


@pytest.mark.parametrize("scale", [(1, 1), (4, 1), (1, 4)])
def test_what_is_computed_place_by_place_is_equal(scale: tuple[int, int]) -> None:
    up, down = scale

    def compute(x: torch.Tensor) -> torch.Tensor:
        small = torch.nn.functional.avg_pool3d(x, (1, down, down))
        return small.repeat_interleave(up, -1).repeat_interleave(up, -2)

    x = torch.randn(1, 2, 3, 64, 40)
    found = tiled(lambda place: compute(x[place]), x.shape[-2:], tile=24, multiple=4, scale=scale)
    torch.testing.assert_close(found, compute(x))


def test_seams_are_blended() -> None:
    """Tiles that disagree by 1 pass into each other in steps below 1 / 4."""
    calls = iter(range(100))
    x = torch.zeros(1, 1, 1, 8, 112)
    found = tiled(lambda place: x[place] + next(calls) % 2, x.shape[-2:], tile=32, multiple=8, scale=(1, 1))
    assert found.min() == 0 and found.max() == 1
    assert found.diff(dim=-1).abs().max() < 0.25
