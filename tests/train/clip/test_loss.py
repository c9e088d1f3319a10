import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from train.clip.loss import info_nce, matching_bias, sigmoid_loss

NONE = torch.eye(4, dtype=torch.bool)
SCALE = torch.tensor(math.log(5.0))


def vectors(seed: int, count: int = 4, dim: int = 6) -> Tensor:
    return F.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)), dim=-1)


def with_shared(*pairs: tuple[int, int]) -> Tensor:
    shared = NONE.clone()
    for i, j in pairs:
        shared[i, j] = shared[j, i] = True
    return shared


def test_info_nce_is_the_mean_of_both_directions_typed_out() -> None:
    clips, texts = vectors(0), vectors(1)
    total = 0.0
    for i in range(4):
        of_clip = [math.exp(5 * float(clips[i] @ texts[j])) for j in range(4)]
        of_text = [math.exp(5 * float(clips[j] @ texts[i])) for j in range(4)]
        total -= (math.log(of_clip[i] / sum(of_clip)) + math.log(of_text[i] / sum(of_text))) / 2
    assert info_nce(clips, texts, SCALE, None, NONE).item() == pytest.approx(total / 4, abs=1e-5)


def test_the_sigmoid_loss_asks_each_pair_by_itself() -> None:
    clips, texts, bias = vectors(0), vectors(1), torch.tensor(-1.5)
    total = 0.0
    for i in range(4):
        for j in range(4):
            logit = 5 * float(clips[i] @ texts[j]) - 1.5
            total += math.log1p(math.exp(-logit if i == j else logit))
    assert sigmoid_loss(clips, texts, SCALE, bias, NONE).item() == pytest.approx(total / 4, abs=1e-5)


@pytest.mark.parametrize("loss", [info_nce, sigmoid_loss])
def test_losses_are_open_clips_where_no_caption_is_shared(loss: object) -> None:
    from curate.encoders import torchvision_cpu

    torchvision_cpu.repair()
    from open_clip.loss import ClipLoss, SigLipLoss

    clips, texts, bias = vectors(2), vectors(3), torch.tensor(-2.0)
    if loss is info_nce:
        expected = ClipLoss()(clips, texts, SCALE.exp())
    else:
        expected = SigLipLoss()(clips, texts, SCALE.exp(), bias)
    assert loss(clips, texts, SCALE, bias, NONE).item() == pytest.approx(expected.item(), abs=1e-6)  # type: ignore[operator]


@pytest.mark.parametrize("loss", [info_nce, sigmoid_loss])
def test_pairs_with_a_caption_in_common_do_not_repel_each_other(loss: object) -> None:
    """The gradient of one's clip does not depend on the other's text, and its own pair still counts."""
    texts, bias = vectors(1), torch.tensor(-1.0)
    clips = vectors(0).requires_grad_()
    moved = torch.cat([texts[:3], vectors(9)[:1]])
    found = []
    for given in (texts, moved):
        (gradient,) = torch.autograd.grad(loss(clips, given, SCALE, bias, with_shared((0, 3))), clips)  # type: ignore[operator]
        found.append(gradient)
    torch.testing.assert_close(found[0][0], found[1][0])
    assert not torch.allclose(found[0][1], found[1][1])
    assert found[0][0].abs().max() > 0


def test_the_first_bias_calls_one_pair_in_so_many_a_match() -> None:
    clips, texts = vectors(0, 16), vectors(1, 16)
    for scale in (math.log(10), math.log(100)):
        log_scale = torch.tensor(scale)
        bias = matching_bias(clips, texts, log_scale)
        predicted = torch.sigmoid(log_scale.exp() * clips @ texts.T + bias).mean().item()
        assert predicted == pytest.approx(1 / 16, rel=1e-3)
