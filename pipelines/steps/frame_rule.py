"""Which frames of clips their latents show: what `encode` says of the autoencoder's frame rule."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def frame_rule(record: Mapping[str, Any], stored: pa.Table) -> str:
    """`1 + 4k frames, sides multiples of 16 px; 3 of 120 frames left out`.

    Args:
        record: fingerprint.json of the latents.
        stored: their index. That of an earlier reelpack does not tell how long clips are.
    """
    stride = record["temporal_stride"]
    multiple = record.get("sides_multiple_px", record["config"]["multiple_px"])
    frames = f"1 + {stride}k frames" if stride > 1 else "any number of frames"
    rule = f"{frames}, sides multiples of {multiple} px"
    if "clip_frames" not in stored.column_names:
        return rule
    ends = stored.append_column("end", pc.add(stored["start_frame"], stored["num_frames"]))
    clips = ends.group_by("clip_id").aggregate([("start_frame", "min"), ("end", "max"), ("clip_frames", "max")])
    shown = pc.sum(pc.subtract(clips["end_max"], clips["start_frame_min"])).as_py() or 0
    in_all = pc.sum(clips["clip_frames_max"]).as_py() or 0
    return f"{rule}; {in_all - shown:,} of {in_all:,} frames left out"
