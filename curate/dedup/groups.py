"""All pairs of copies, joined into groups."""

from collections.abc import Iterable

import pyarrow as pa

from curate.dedup.components import union
from curate.dedup.config import DedupConfig
from curate.dedup.perceptual import perceptual_pairs
from curate.dedup.semantic import Embeddings, semantic_pairs


def find_groups(
    clips: pa.Table | Iterable[pa.Table], embeddings: Embeddings | None, config: DedupConfig
) -> dict[str, str]:
    """Clip id → id of its group (the smallest of its members' ids), for clips that have a copy.

    A pure function of what is stored, in any order of rows: when data is added it is computed again, from hashes and
    embeddings that are there already. Copies of copies are copies: a group may hold two members that alone would not
    be found.

    Args:
        clips: `clip_id, frame_hashes` (see `frame_hash`): a table in any order, or tables in order of id.
        embeddings: of some or all of the clips, and of no others.
        config: what counts as a copy.
    """
    pairs: list[tuple[str, str]] = []
    if config.perceptual.enabled:
        pairs += perceptual_pairs(clips, config.perceptual)
    if config.semantic.min_similarity is not None and embeddings is not None:
        pairs += semantic_pairs(embeddings, config.semantic)
    return union(pairs)
