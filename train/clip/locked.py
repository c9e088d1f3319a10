"""Vectors of clips whose tower does not train (LiT, Zhai et al. 2022, arXiv:2111.07991): computed once, and kept in
the run's folder. A stopped run continues after the last part."""

import logging
from collections.abc import Callable, Iterator, Sequence

from safetensors.torch import load
from torch import Tensor

from curate.storage.place import AnyPath
from curate.storage.publish import publish
from curate.storage.tensors import tensors_to_bytes
from train.clip.pairs import CaptionedClip
from train.distributed.ranks import RankGrid

PART_SIZE = 256
"""Clips of a part."""

logger = logging.getLogger(__name__)


def locked_vectors(
    clips: Sequence[CaptionedClip],
    folder: AnyPath,
    embed: Callable[[Sequence[CaptionedClip]], Iterator[Tensor | None]],
    ranks: RankGrid,
    on_part: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Tensor]:
    """clip_id → (d,) float32 on CPU; without the clips that cannot be decoded.

    Args:
        clips: in the order that the parts have.
        folder: of the parts; each is written once, by one of the ranks.
        embed: clips → their vectors, (d,); None for one that cannot be decoded.
        ranks: this rank.
        on_part: called with the parts that this rank has done, and all of its parts.
    """
    parts = [clips[start : start + PART_SIZE] for start in range(0, len(clips), PART_SIZE)]
    own = [(number, part) for number, part in enumerate(parts) if number % ranks.world_size == ranks.rank]
    error: Exception | None = None
    try:
        for done, (number, part) in enumerate(own, 1):
            if not (path := _path(folder, number)).exists():
                vectors = {clip.clip_id: v for clip, v in zip(part, embed(part), strict=True) if v is not None}
                with publish(str(path)) as file:
                    file.write(tensors_to_bytes(vectors))
            on_part(done, len(own))
    except (OSError, ValueError) as raised:
        error = raised
    ranks.raise_together(error)
    found: dict[str, Tensor] = {}
    for number in range(len(parts)):
        found |= load(_path(folder, number).read_bytes())
    if len(found) < len(clips):
        logger.warning("%d of %d clips cannot be decoded and are left out", len(clips) - len(found), len(clips))
    return found


def _path(folder: AnyPath, number: int) -> AnyPath:
    return folder / f"part-{number:06d}.safetensors"
