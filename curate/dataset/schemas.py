"""Arrow schemas of the tables and indices of a dataset."""

from dataclasses import fields

import pyarrow as pa

from curate.dataset.captions import CAPTION_COLUMNS
from curate.dataset.sources import SOURCE
from curate.media.parts import Part
from curate.signals.config import SIGNAL_NAMES

VIDEOS = pa.schema(
    [
        ("uri", pa.string()),
        ("version", pa.string()),
        ("scan_key", pa.string()),
        ("outcome", pa.string()),
        ("failure", pa.string()),
        ("detail", pa.string()),
        ("video_id", pa.string()),
        ("size_bytes", pa.int64()),
        ("kind", pa.string()),
        ("container", pa.string()),
        ("codec", pa.string()),
        ("pixel_format", pa.string()),
        ("bit_depth", pa.int32()),
        ("color_transfer", pa.string()),
        ("color_primaries", pa.string()),
        ("interlaced", pa.bool_()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("rotation", pa.int32()),
        ("mirrored", pa.bool_()),
        ("sample_aspect_ratio", pa.string()),
        ("fps", pa.string()),
        ("time_base", pa.string()),
        ("num_frames", pa.int64()),
        ("duration_s", pa.float64()),
        ("has_audio", pa.bool_()),
        ("video_stream", pa.int32()),
        ("num_video_streams", pa.int32()),
        ("dolby_vision", pa.int32()),
        ("notes", pa.list_(pa.string())),
    ]
)
PART = pa.struct([(field.name, pa.int64()) for field in fields(Part) if field.name != "warm_frame"])
IDENTITIES = pa.schema(
    [
        ("uri", pa.string()),
        ("version", pa.string()),
        ("video_id", pa.string()),
        ("part_s", pa.float64()),
        ("parts", pa.list_(PART)),
        ("declared_s", pa.float64()),
        ("warm_frames", pa.int64()),
        ("part_warm_frames", pa.list_(pa.int64())),
    ]
)
CLIPS = pa.schema(
    [
        ("clip_id", pa.string()),
        ("video_id", pa.string()),
        ("scan_key", pa.string()),
        ("kind", pa.string()),
        ("start_pts", pa.int64()),
        ("end_pts", pa.int64()),
        ("time_base", pa.string()),
        ("fps", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("num_frames", pa.int64()),
        ("shot", pa.int64()),
        ("num_shots", pa.int64()),
        ("transition_before", pa.string()),
        ("left_out_before", pa.int64()),
        ("transition_after", pa.string()),
        ("left_out_after", pa.int64()),
        *((name, pa.float64()) for name in SIGNAL_NAMES),
        ("frame_hashes", pa.binary()),
    ]
)
SHARDS = pa.schema(
    [
        ("clip_id", pa.string()),
        ("cut_key", pa.string()),
        ("split", pa.string()),
        ("shard", pa.string()),
        ("ext", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("digest", pa.string()),
        ("num_frames", pa.int64()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("fps", pa.float64()),
        ("duration_s", pa.float64()),
        ("codec", pa.string()),
        ("pixel_format", pa.string()),
        ("color_transfer", pa.string()),
        ("cut_start_pts", pa.int64()),
        ("cut_end_pts", pa.int64()),
        ("audio_codec", pa.string()),
        ("audio_channels", pa.int32()),
        ("audio_rate", pa.int32()),
        ("audio_s", pa.float64()),
    ]
)
SHARD_PLANS = pa.schema(
    [
        ("clip_id", pa.string()),
        ("cut_key", pa.string()),
        ("split", pa.string()),
        ("shard", pa.string()),
        ("position", pa.int64()),
    ]
)
FAILURES = pa.schema(
    [
        ("subject", pa.string()),
        ("step", pa.string()),
        ("key", pa.string()),
        ("kind", pa.string()),
        ("detail", pa.string()),
        ("attempts", pa.int32()),
        ("retryable", pa.bool_()),
        ("retry_command", pa.string()),
    ]
)
VERSIONS = pa.schema(
    [
        ("number", pa.int64()),
        *((name, pa.string()) for name in ("at", "command", "user", "reelpack_version")),
        ("settings", pa.string()),  # JSON
        *((f"num_{name}", pa.int64()) for name in ("keep", "reject", "pending", "failed")),
        ("kept_s", pa.float64()),
        ("digest", pa.string()),
    ]
)
DECISIONS = pa.schema(
    [
        ("clip_id", pa.string()),
        ("number", pa.int64()),  # of the version
        ("decision", pa.string()),  # null: the clip is not there any more
        ("reasons", pa.string()),
        ("duration_s", pa.float64()),
    ]
)
"""What changed in a version of the decision, see `curate.dataset.versions`."""
INDEX_COLUMNS = [
    "clip_id", "video_id", "kind", "split", "shard", "ext", "offset", "size", "digest", "num_frames", "height",
    "width", "fps", "duration_s", "codec", "pixel_format", "color_transfer", "cut_start_pts", "cut_end_pts",
    "audio_codec", "audio_channels", "audio_rate", "audio_s", *CAPTION_COLUMNS,
]  # fmt: skip

PUBLIC_COLUMNS = [
    "clip_id", "video_id", "video_uri", "kind", "start_s", "end_s", "start_pts", "end_pts", "time_base", "fps",
    "width", "height", "num_frames", "shot", "num_shots", "transition_before", "left_out_before", "transition_after",
    "left_out_after", "split", "decision", "reasons", "duplicate_group", "duplicate_of",
    "failed_step", "unscored", "balance_weight", "duration_s", "short_side_px", "bitrate",
]  # fmt: skip
INDEX = pa.schema(
    [
        *(SHARDS.field(n) if n in SHARDS.names else pa.field(n, pa.string()) for n in INDEX_COLUMNS),
        ("balance_weight", pa.float64()),
    ]
)

FINDING = pa.struct(
    [*((name, pa.string()) for name in ("code", "status", "detail", "remedy")), ("value", pa.float64())]
)
ATTEMPT = pa.struct([("text", pa.string()), ("codes", pa.list_(pa.string())), ("remedies", pa.list_(pa.string()))])
WINDOW = pa.struct([("start_s", pa.float64()), ("end_s", pa.float64()), ("text", pa.string())])
PROVENANCE = pa.struct(
    [
        *((name, pa.string()) for name in ("backend", "model", "revision", "fingerprint")),
        ("parameters", pa.string()),  # JSON
        ("seed", pa.int64()),
        ("libraries", pa.string()),  # JSON
    ]
)
CAPTIONS = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("media_digest", pa.string()),
        pa.field("level", pa.string(), nullable=False),
        pa.field("variant", pa.int32(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("findings", pa.list_(FINDING)),
        pa.field("attempt", pa.int32()),
        pa.field("earlier", pa.list_(ATTEMPT)),
        pa.field("parents", pa.list_(pa.string())),
        pa.field("windows", pa.list_(WINDOW)),
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("provenance", PROVENANCE),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("prompt_hash", pa.string(), nullable=False),
        pa.field("prompt_text", pa.string(), nullable=False),
        pa.field("frame_indices", pa.list_(pa.int64()), nullable=False),
        pa.field("frame_times_s", pa.list_(pa.float64()), nullable=False),
        pa.field("max_tokens", pa.int64()),
        pa.field("num_prompt_tokens", pa.int64(), nullable=False),
        pa.field("num_output_tokens", pa.int64(), nullable=False),
    ]
)
"""Rows of `tables/captions/<name>-<hash>/`, unique by `clip_id`, `level` and `variant`."""

LOCATION = [
    ("clip_id", pa.string()),
    ("split", pa.string()),
    ("shard", pa.string()),
    ("offset", pa.int64()),
    ("size", pa.int64()),
    ("digest", pa.string()),
    (SOURCE, pa.string()),
]
LATENTS = pa.schema(
    [
        *LOCATION,
        ("num_frames", pa.int64()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("fps", pa.float64()),
        ("latent_c", pa.int32()),
        ("latent_t", pa.int32()),
        ("latent_h", pa.int32()),
        ("latent_w", pa.int32()),
        ("num_tokens", pa.int64()),
        pa.field("window", pa.int32(), nullable=False),  # 0 also where an earlier reelpack wrote the row
        ("start_frame", pa.int64()),  # of the window, among `clip_frames` at its rate
        ("clip_frames", pa.int64()),
    ]
)
"""One row per window of a clip."""
TEXT = pa.schema(
    [
        *LOCATION,
        ("names", pa.list_(pa.string())),  # of the tensors: `text_name`
        ("num_tokens", pa.list_(pa.int32())),
        ("num_uncut_tokens", pa.list_(pa.int32())),  # what there would be without text.max_tokens
    ]
)
"""One row per clip; the lists have an item for each of its texts. `media_digest` is that of the texts: embeddings are
made of those alone."""
