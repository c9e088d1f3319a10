"""A self-contained WebDataset for other tools: <clip_id>.mp4, .txt, .json, and latents by option."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from curate.shards.tar import PLACE, TarReader, read_member, write_tar


def export_shard(
    url: str,
    rows: Sequence[Mapping[str, Any]],
    reader: TarReader,
    latent: Callable[[str], bytes | None] | None = None,
) -> int:
    """Write one tar of the clips of `rows` (index rows) with their captions; returns the number of samples.

    The .txt holds the dense caption (the short one where there is no dense one), as image- and video-text trainers
    expect; the .json holds the index row, both captions included. `latent(clip_id)` gives the .safetensors payload.
    """

    def samples() -> Iterator[tuple[str, dict[str, bytes]]]:
        for row in rows:
            parts = {row["ext"]: read_member(reader, row)}
            text = row["caption_dense"] or row["caption_short"]
            if text:
                parts["txt"] = text.encode()
            facts = {name: value for name, value in row.items() if name not in PLACE}
            parts["json"] = json.dumps(facts, sort_keys=True, default=str).encode()
            payload = latent(row["clip_id"]) if latent else None
            if payload is not None:
                parts["safetensors"] = payload
            yield row["clip_id"], parts

    return len({member.key for member in write_tar(url, samples())})
