"""A dataset of clips and images for tests of exports: its shards, index and decisions, without a run of `curate`."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.media.encode import encode_mp4
from curate.media.still import encode_png
from curate.shards.tar import Member, write_tar
from curate.storage.tensors import arrays_to_bytes
from tests.support.videos import moving

NUM_CLIPS, NUM_VAL = 9, 2
SLOW, FAST = 12.0, 24000 / 1001


def media(number: int, *, images: bool = True) -> tuple[str, bytes]:
    """Extension and bytes of a clip; with `images`, every third is one."""
    if images and number % 3 == 1:
        return "png", encode_png(moving(number, 0.1, (64, 48))[0])
    return "mp4", encode_mp4(moving(number, 0.5, (64, 48)), 12)


def write_dataset(root: Path, *, images: bool = True, uncaptioned: frozenset[int] = frozenset(range(6))) -> str:
    """Shards and their index: in an order of ids in which nulls come first, some captions and numbers are missing.
    `clips.parquet` has `nsfw`, which the index has not."""
    rows = []
    for split, numbers in (("train", range(NUM_CLIPS - NUM_VAL)), ("val", range(NUM_CLIPS - NUM_VAL, NUM_CLIPS))):
        samples = {clip_name(number): media(number, images=images) for number in numbers}
        members = write_tar(
            str(root / f"shards/{split}-000000.tar"), ((name, dict([part])) for name, part in samples.items())
        )
        for number, member in zip(numbers, members, strict=True):
            rows.append(_row(number, split, member, captioned=number not in uncaptioned))
    pq.write_table(pa.Table.from_pylist(rows), root / "shards/index.parquet")
    known = [{"clip_id": row["clip_id"], "nsfw": row["views"] / 10 if row["views"] else None} for row in rows]
    pq.write_table(pa.Table.from_pylist(known), root / "clips.parquet")
    return str(root)


def clip_name(number: int) -> str:
    return f"{number:032x}"


def _row(number: int, split: str, member: Member, *, captioned: bool) -> dict[str, object]:
    is_image = member.ext == "png"
    return {
        "clip_id": member.key,
        "kind": "image" if is_image else "video",
        "split": split,
        "shard": member.shard,
        "ext": member.ext,
        "offset": member.offset,
        "size": member.size,
        "digest": member.digest,
        "num_frames": 1 if is_image else 6,
        "width": 64,
        "height": 48,
        "fps": FAST if number % 2 else SLOW,
        "duration_s": 0.0 if is_image else 0.5,
        "caption_short": f"short {number}" if captioned else None,
        "caption_dense": f"dense {number}, é" if captioned and number % 2 else None,
        "title": None if number < 6 else f"title {number}",
        "licence": "CC0" if number % 2 else "CC-BY|4",
        "rating": None if number < 6 else number + 0.5,
        "score": float("nan") if number == 7 else 1.0,
        "views": number,
        "tags": [] if number < 6 else ["a"],
    }


def add_latents(root: Path) -> None:
    """Latents of all clips but the last."""
    folder = root / "latents/lat0"
    names = [clip_name(number) for number in range(NUM_CLIPS - 1)]
    payload = arrays_to_bytes({"latent": np.zeros((4, 1, 2, 2), np.float16)})
    members = write_tar(str(folder / "all-000000.tar"), ((name, {"safetensors": payload}) for name in names))
    rows = [
        {"clip_id": m.key, "shard": m.shard, "offset": m.offset, "size": m.size, "digest": m.digest} for m in members
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "index.parquet")
    (folder / "fingerprint.json").write_text(json.dumps({"fingerprint": "lat0", "channels": 4}))
