"""Samples for other tools: <clip_id>.mp4 or .png, .txt, .json, latents by option.

Every sample of an export has the same extensions, and every .json the same keys with values of the same types.
`datasets` infers both from the first five samples of one tar: what it did not see there it leaves out without a word,
and a number where it saw nulls is an error.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from curate.dataset.captions import MOST_DETAILED, texts_of
from curate.schema import MediaError
from curate.shards.tar import PLACE, TarReader, read_member, write_tar

IMAGE, VIDEO = "png", "mp4"


def export_shard(url: str, samples: Iterator[tuple[str, dict[str, bytes]]]) -> int:
    """Write one tar of samples; returns their number."""
    return len({member.key for member in write_tar(url, samples)})


def export_samples(
    rows: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Mapping[str, Any]],
    reader: TarReader,
    *,
    both: bool = False,
    latent: Callable[[str], bytes] | None = None,
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Clips of index rows with their captions, `(clip_id, {extension: payload})`.

    The .txt holds the dense caption (the short one where there is no dense one), as image- and video-text trainers
    expect; it is empty where there is none.

    Args:
        rows: of the index.
        facts: the .json of each clip, see `uniform_facts`.
        reader: of the shards.
        both: the export has images and clips: an image also becomes an .mp4 of one frame, a clip's first frame a .png.
        latent: gives the .safetensors payload of a clip.

    Raises:
        ValueError: with `both`, a clip that cannot be decoded.
    """
    for row in rows:
        name, data = row["clip_id"], read_member(reader, row)
        parts = {row["ext"]: data}
        if both:
            parts |= _other_form(name, row["ext"], data)
        parts["txt"] = caption_of(row).encode()
        parts["json"] = json.dumps(facts[name], sort_keys=True).encode()
        if latent is not None:
            parts["safetensors"] = latent(name)
        yield name, parts


def caption_of(row: Mapping[str, Any]) -> str:
    """The most detailed caption of an index row; empty where it has none."""
    texts = texts_of(row)
    return next((texts[level] for level in MOST_DETAILED if level in texts), "")


def uniform_facts(index: pa.Table) -> dict[str, dict[str, Any]]:
    """The columns of an index by clip, each column of one type: text, and numbers where all clips have one. Null
    becomes an empty text; all other values of such a column become text, as JSON writes them."""
    columns = {}
    for name in index.column_names:
        if name in PLACE and name != "clip_id":
            continue
        column = index[name]
        if pt.is_floating(column.type):
            column = pc.if_else(pc.is_finite(column), column, None)
        kind = column.type
        if pt.is_string(kind) or pt.is_large_string(kind):
            columns[name] = pc.fill_null(column, "").to_pylist()
        elif column.null_count or not (pt.is_integer(kind) or pt.is_floating(kind) or pt.is_boolean(kind)):
            columns[name] = ["" if value is None else json.dumps(value, default=str) for value in column.to_pylist()]
        else:
            columns[name] = column.to_pylist()
    return {
        name: dict(zip(columns, values, strict=True))
        for name, values in zip(index["clip_id"].to_pylist(), zip(*columns.values(), strict=True), strict=True)
    }


def _other_form(name: str, ext: str, data: bytes) -> dict[str, bytes]:
    from curate.media.decode import clip_frames, clip_times
    from curate.media.encode import encode_mp4
    from curate.media.still import encode_png

    try:
        rgb = next(clip_frames(data, clip_times(data), np.zeros(1, np.int64)))
    except MediaError as error:
        raise ValueError(f"clip {name} cannot be decoded ({error}); `reelpack verify` finds all like it") from error
    return {IMAGE: encode_png(rgb)} if ext == VIDEO else {VIDEO: encode_mp4(rgb[None], 1)}
