"""Contrastive losses of a batch of clips and texts.

Shapes: B pairs, d dimensions. `shared` (B, B) bool: pairs that are no negatives of each other, as they have a caption
in common; its diagonal does not count.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_LOG_SCALE = math.log(100)
"""Of the inverse temperature: CLIP clips it at 100 (Radford et al. 2021, section 2.5)."""
NUM_BISECTIONS = 60

ContrastiveLoss = Callable[[Tensor, Tensor, Tensor, Tensor | None, Tensor], Tensor]
"""Unit vectors of clips (B, d) and of their texts (B, d), log of the inverse temperature, bias (None: 0), `shared` → a
scalar, the mean over the pairs."""


def loss_of(kind: Literal["info_nce", "sigmoid"]) -> ContrastiveLoss:
    return {"info_nce": info_nce, "sigmoid": sigmoid_loss}[kind]


def info_nce(clips: Tensor, texts: Tensor, log_scale: Tensor, bias: Tensor | None, shared: Tensor) -> Tensor:
    """The symmetric cross-entropy of CLIP (Radford et al. 2021, arXiv:2103.00020, section 2.3, figure 3): each clip's
    text among those of the batch, and each text's clip. A bias changes no softmax, and is left out."""
    logits = log_scale.exp() * clips @ texts.T  # (B, B)
    pairs = torch.arange(len(clips), device=clips.device)
    logits = logits.masked_fill(shared & (pairs[:, None] != pairs), -torch.inf)
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2


def sigmoid_loss(clips: Tensor, texts: Tensor, log_scale: Tensor, bias: Tensor | None, shared: Tensor) -> Tensor:
    """The pairwise sigmoid loss of SigLIP (Zhai et al. 2023, arXiv:2303.15343, section 3.2): is this the text of this
    clip, asked of each of the B² pairs; a sum over texts, the mean over clips."""
    logits = log_scale.exp() * clips @ texts.T + (0 if bias is None else bias)  # (B, B)
    is_pair = torch.eye(len(clips), dtype=torch.bool, device=clips.device)
    losses = -F.logsigmoid(torch.where(is_pair, logits, -logits))
    return losses.masked_fill(shared & ~is_pair, 0).sum() / len(clips)


def matching_bias(clips: Tensor, texts: Tensor, log_scale: Tensor) -> float:
    """The bias with which the mean predicted probability of a match is that of a random pair, 1 / B.

    SigLIP begins with a bias of -10 for the many negatives, at a temperature that it learns from 0.1 on. The
    temperature of a trained CLIP is far lower, and there the same bias would call most pairs matches.
    """
    logits = (log_scale.exp() * clips @ texts.T).double()
    low, high = -float(logits.max()) - math.log(logits.numel()) - 1, -float(logits.min()) + 1
    for _ in range(NUM_BISECTIONS):
        middle = (low + high) / 2
        if torch.sigmoid(logits + middle).mean() > 1 / len(clips):
            high = middle
        else:
            low = middle
    return (low + high) / 2
