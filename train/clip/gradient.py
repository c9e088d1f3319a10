"""The gradient of a contrastive loss over a batch that fits into no forward pass: the gradient cache (Gao et al. 2021,
arXiv:2101.06983, section 3.2).

The vectors of a rank's pairs are computed chunk by chunk without their histories. All ranks get all vectors, and each
computes the loss of the whole batch and its gradient by the vectors. Then each chunk is computed once more, and the
gradient of its vectors goes back through it. Chunks and ranks change nothing but the order of summation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from train.clip.load import Loaded, embed
from train.clip.loss import ContrastiveLoss
from train.clip.model import ClipModel
from train.distributed.ranks import RankGrid


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """The vectors of a batch of B pairs, without their histories.

    Attributes:
        clips, texts: (b, d), of the pairs whose clips could be decoded, on all ranks.
        kept: (B,) bool: which pairs of the batch these are.
        own: (n,) int64: which of the b this rank has computed, in its order.
    """

    clips: Tensor
    texts: Tensor
    kept: Tensor
    own: Tensor


def gather(
    own: Sequence[Loaded | None], embedded: Sequence[tuple[Tensor, Tensor]], dim: int, ranks: RankGrid
) -> Vectors:
    """Give each rank the vectors of all ranks.

    Args:
        own: this rank's part of the batch; every rank has as many.
        embedded: the vectors of those of them that could be decoded, in chunks.
        dim: of a vector.
        ranks: this rank.

    Raises:
        ValueError: fewer than two clips of the batch can be decoded.
    """
    table = torch.zeros(ranks.world_size, len(own), 2 * dim + 1, device=ranks.device)
    rows = [row for row, pair in enumerate(own) if pair is not None]
    if rows:
        clips, texts = (torch.cat(parts).detach() for parts in zip(*embedded, strict=True))
        table[ranks.rank, rows] = torch.cat([clips, texts, torch.ones_like(clips[:, :1])], dim=1)
    table = ranks.sum(table).flatten(0, 1)  # a row has one rank's numbers, and zeros of the others
    kept = table[:, -1] > 0
    if (num := int(kept.sum())) < 2:
        raise ValueError(
            f"{num} of the {len(kept)} clips of a batch can be decoded; `reelpack verify DATASET` looks at them"
        )
    places = kept.cumsum(0) - 1
    own_places = places[torch.tensor(rows, dtype=torch.int64, device=ranks.device) + ranks.rank * len(own)]
    return Vectors(clips=table[kept, :dim], texts=table[kept, dim:-1], kept=kept, own=own_places)


def backward(
    model: ClipModel,
    own: Sequence[Loaded | None],
    shared: np.ndarray,
    loss: ContrastiveLoss,
    ranks: RankGrid,
    chunk_size: int | None,
) -> tuple[float, int]:
    """Add the gradient of the batch's loss to the weights, the same on every rank.

    Args:
        model: its weights that train get a gradient.
        own: this rank's part of the batch; None: the clip cannot be decoded.
        shared: (B, B) bool: pairs of the batch that are no negatives of each other.
        loss: of all vectors.
        ranks: this rank.
        chunk_size: pairs of a forward pass; None: all.

    Returns:
        The loss, and the number of pairs that it is of.
    """
    pairs = [pair for pair in own if pair is not None]
    size = chunk_size or max(1, len(pairs))
    chunks = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    is_one = len(chunks) == 1  # its vectors keep their history: nothing is computed twice
    with torch.set_grad_enabled(is_one):
        embedded = [embed(model, chunk) for chunk in chunks]
    batch = gather(own, embedded, model.dim, ranks)
    sides = (batch.clips.requires_grad_(), batch.texts.requires_grad_())
    is_shared = torch.from_numpy(shared).to(ranks.device)[batch.kept][:, batch.kept]
    value = loss(*sides, model.log_scale, model.bias, is_shared)
    value.backward()  # into the vectors, the temperature and the bias
    for chunk, places in zip(chunks, batch.own.split(size), strict=True) if chunks else ():
        outputs = embedded[0] if is_one else embed(model, chunk)
        trained = [(out, side.grad[places]) for out, side in zip(outputs, sides, strict=True)
                   if out.requires_grad and side.grad is not None]  # fmt: skip
        torch.autograd.backward([out for out, _ in trained], [grad for _, grad in trained])
    for weight in (*model.trained("image"), *model.trained("text")):
        weight.grad = (
            torch.zeros_like(weight) if weight.grad is None else weight.grad
        )  # no clip of this rank's decodes
        ranks.sum(weight.grad)
    return value.item(), len(batch.clips)
