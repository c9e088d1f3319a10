"""Which captions and latents are of the clip as it is cut now: a clip that is cut again keeps its id and has other
bytes."""

import pyarrow as pa
import pyarrow.compute as pc

DIGEST = "digest"
"""Column of a shard's index: the digest of a member's bytes."""
SOURCE = "media_digest"
"""Column of what was made from a clip: the digest of the clip's bytes then."""


def of_current(rows: pa.Table, cut: pa.Table) -> pa.Table:
    """The rows that were made from the bytes that their clip has now; those of clips that are not cut are left out.

    Args:
        rows: `clip_id`, and in `media_digest` what each was made from; without it, or null: an earlier reelpack wrote
            them, and they count.
        cut: `clip_id`, unique, and `digest`: what the clips are now; likewise.
    """
    names = cut["clip_id"].cast(pa.large_string()).combine_chunks()
    places = pc.index_in(rows["clip_id"].cast(pa.large_string()), names)
    is_current = pc.is_valid(places)
    if SOURCE in rows.column_names and DIGEST in cut.column_names:
        now = cut[DIGEST].cast(pa.large_string()).take(places)
        is_same = pc.fill_null(pc.equal(rows[SOURCE].cast(pa.large_string()), now), True)
        is_current = pc.and_(is_current, is_same)
    return rows.filter(is_current)
