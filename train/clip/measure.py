"""Retrieval among held-out pairs, measured by all ranks together."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from train.clip.load import PairLoader, embed
from train.clip.model import ClipModel
from train.clip.pairs import Pair, plain
from train.clip.recall import recall
from train.distributed.ranks import RankGrid


@torch.no_grad()
def measure(
    model: ClipModel, loader: PairLoader, pairs: Sequence[Pair], ranks: RankGrid, at_once: int
) -> dict[str, Any]:
    """Recall in both directions, `text_to_clip` and `clip_to_text`; empty where fewer than two clips can be decoded.

    Raises:
        OSError, ValueError: on every rank: a shard cannot be read, or holds other bytes than the index says.
    """
    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    error: Exception | None = None
    own = range(ranks.rank, len(pairs), ranks.world_size)
    try:
        for start in range(0, len(own), at_once):
            rows = own[start : start + at_once]
            loaded = loader.load([pairs[row] for row in rows])
            decoded = {row: pair for row, pair in zip(rows, loaded, strict=True) if pair is not None}
            if decoded:
                clips, texts = (side.cpu().numpy() for side in embed(model, [*decoded.values()]))
                found |= {row: (clips[i], texts[i]) for i, row in enumerate(decoded)}
    except (OSError, ValueError) as raised:
        error = raised
    ranks.raise_together(error)
    by_row = {row: both for of_rank in ranks.all_gather_object(found) for row, both in of_rank.items()}
    if len(by_row) < 2:
        return {}
    order = sorted(by_row)
    clips = np.stack([by_row[row][0] for row in order])
    # Each text once: clips with one caption would be the same query again and again.
    row_of = {plain(pairs[row].text): row for row in order}
    texts = np.stack([by_row[row][1] for row in row_of.values()])
    matches = np.array([[text in pairs[row].clip.said for row in order] for text in row_of])
    return {
        "text_to_clip": recall(texts, clips, matches).row(),
        "clip_to_text": recall(clips, texts, matches.T).row(),
    }
