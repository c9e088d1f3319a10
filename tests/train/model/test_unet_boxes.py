"""Operators on rows of boxes do what torch does on each box."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from train.model.unet.boxes import EPS, Boxes, box_convolution, box_norm, convolution_operator, norm_operator
from train.model.unet.pyramid import Level, build_pyramid, copied_to_children
from train.model.unet.taps import gathered_convolution, neighbors
from train.packing.batch import Sample, pack

RUNS = [(3, 5, 4), (1, 1, 1), (2, 2, 7)]
BOXES = Boxes(RUNS)


def apart(x: Tensor) -> list[Tensor]:
    """(n, C, rows, columns) of each run, copied."""
    parts = x.split([n * h * w for n, h, w in RUNS])
    return [part.reshape(n, h, w, -1).permute(0, 3, 1, 2) for part, (n, h, w) in zip(parts, RUNS, strict=True)]


def row(boxes: list[Tensor]) -> Tensor:
    return torch.cat([box.permute(0, 2, 3, 1).reshape(-1, box.shape[1]) for box in boxes])


def same_with_gradients(one: Callable[..., Tensor], other: Callable[..., Tensor], *inputs: Tensor) -> None:
    outs, grads = [], []
    for function in (one, other):
        leaves = [x.clone().requires_grad_() for x in inputs]
        outs.append(function(*leaves))
        upstream = torch.randn(outs[-1].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        grads.append(torch.autograd.grad(outs[-1], leaves, upstream))
    torch.testing.assert_close(*outs)
    torch.testing.assert_close(*grads)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize(("kernel", "stride"), [((3, 3), 1), ((3, 3), 2), ((3, 1), 1), ((1, 1), 1)])
def test_a_convolution_of_boxes_is_that_of_each(kernel: tuple[int, int], stride: int):
    padding = (kernel[0] // 2, kernel[1] // 2)
    num_out = sum(n * -(-h // stride) * -(-w // stride) for n, h, w in RUNS)
    same_with_gradients(
        lambda x, weight, bias: box_convolution(x, weight, bias, BOXES.sizes, num_out, stride),
        lambda x, weight, bias: row([F.conv2d(box, weight, bias, stride, padding) for box in apart(x)]),
        drawn(BOXES.num_values, 6),
        drawn(8, 6, *kernel),
        drawn(8),
    )


def test_gathered_neighbors_make_the_same_convolution():
    taps = neighbors(RUNS)
    same_with_gradients(
        lambda x, weight, bias: gathered_convolution(x, weight, bias, taps),
        lambda x, weight, bias: row([F.conv2d(box, weight, bias, padding=1) for box in apart(x)]),
        drawn(BOXES.num_values, 6),
        drawn(8, 6, 3, 3),
        drawn(8),
    )


def test_the_norm_of_boxes_is_that_of_each():
    same_with_gradients(
        lambda x: box_norm(x, None, None, BOXES.sizes, BOXES.num_boxes, 3)[0],
        lambda x: row([F.group_norm(box, 3, eps=EPS) for box in apart(x)]),
        drawn(BOXES.num_values, 6),
    )
    same_with_gradients(
        lambda x, weight, bias: box_norm(x, weight, bias, BOXES.sizes, BOXES.num_boxes, 3)[0],
        lambda x, weight, bias: row([F.group_norm(box, 3, weight, bias, EPS) for box in apart(x)]),
        drawn(BOXES.num_values, 6),
        drawn(6),
        drawn(6) + 1,
    )


def test_operators_pass_the_checks_of_torch():
    x, weight, bias = (drawn(*shape).requires_grad_() for shape in ((BOXES.num_values, 4), (6, 4, 3, 3), (6,)))
    num_out = sum(n * -(-h // 2) * -(-w // 2) for n, h, w in RUNS)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(convolution_operator, (x, weight, bias, BOXES.sizes, num_out, 2), test_utils=tests)
    torch.library.opcheck(norm_operator, (x, None, None, BOXES.sizes, BOXES.num_boxes, 2), test_utils=tests)
    scale = bias[:4].detach().requires_grad_()
    torch.library.opcheck(norm_operator, (x, scale, scale, BOXES.sizes, BOXES.num_boxes, 2), test_utils=tests)


@pytest.fixture
def levels() -> dict[int, Level]:
    shapes = [(2, 5, 4), (1, 1, 3), (1, 4, 4)]
    latents = [torch.zeros(1, *shape) for shape in shapes]
    samples = [
        Sample(clip_id=str(i), latent=x, noise=x, timestep=0.5, fps=0.0, text=None) for i, x in enumerate(latents)
    ]
    return build_pyramid(pack(samples, (1, 1, 1), 1), [8, 8, 8]).levels


def test_sides_are_halved_and_rounded_up(levels: dict[int, Level]):
    assert [level.pictures.sizes.tolist() for level in levels.values()] == [
        [[1, 1, 3], [1, 4, 4], [2, 5, 4]],
        [[1, 1, 2], [1, 2, 2], [2, 3, 2]],
        [[2, 1, 1], [2, 2, 1]],
    ]


def test_coarse_patches_are_copied_as_by_nearest_neighbours_and_cut(levels: dict[int, Level]):
    coarse = levels[1].pictures.sizes.tolist()

    def enlarged(x: Tensor) -> Tensor:
        parts = x.split([n * h * w for n, h, w in coarse])
        boxes = [part.reshape(*run, -1).permute(0, 3, 1, 2) for part, run in zip(parts, coarse, strict=True)]
        fine = levels[0].pictures.sizes.tolist()
        return row(
            [F.interpolate(box, scale_factor=2)[..., :h, :w] for box, (_, h, w) in zip(boxes, fine, strict=True)]
        )

    same_with_gradients(lambda x: copied_to_children(x, levels[0]), enlarged, drawn(levels[1].segments.num_tokens, 3))
