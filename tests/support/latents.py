"""Tiny encoded datasets, written with the project's own tar writer: smooth latents, captions that tell their level.

What trains on them needs neither videos nor weights: the tests of the trainer, and its benchmarks.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load

from curate.dataset.captions import LEVELS, caption_column
from curate.schema import content_digest
from curate.shards.tar import TarReader, read_member, write_tar
from curate.storage.tensors import arrays_to_bytes

CHANNELS, TEXT_DIM = 4, 12
LATENTS_RECORD = {"fingerprint": "lat0", "channels": CHANNELS, "temporal_stride": 4, "spatial_stride": 8}
TEXT_RECORD = {"fingerprint": "txt0", "encoder": "synthetic", "dim": TEXT_DIM, "max_tokens": 16}


@dataclass(frozen=True, kw_only=True, slots=True)
class SyntheticClip:
    """`latent` (C, T, H, W); `short` and `dense` (n, D_text) or None, `others` by the names of their texts; `logvar`
    as `latent`, where that is the mean of a posterior."""

    clip_id: str
    split: str
    latent: np.ndarray
    short: np.ndarray | None
    dense: np.ndarray | None
    others: Mapping[str, np.ndarray] = field(default_factory=dict)
    logvar: np.ndarray | None = None


def smooth_clips(num_clips: int, *, num_val: int = 0, seed: int = 0) -> list[SyntheticClip]:
    """Drifting plane waves of a few kinds, of ragged shapes; every third is an image, every fifth has no caption."""
    rng = np.random.default_rng(seed)
    kinds = rng.standard_normal((5, TEXT_DIM)).astype(np.float16)
    clips = []
    for i in range(num_clips):
        t = 1 if i % 3 == 2 else int(rng.integers(2, 5))
        h, w = (int(x) for x in 2 * rng.integers(2, 5, size=2))
        kind = i % 5
        grid = np.stack(np.meshgrid(np.arange(t), np.arange(h), np.arange(w), indexing="ij"))
        phase = np.tensordot(np.array([0.3, 0.2 + 0.2 * kind, 0.9 - 0.2 * kind]), grid, 1)
        latent = np.stack([np.sin(phase + c * kind) * 1.4 for c in range(CHANNELS)]).astype(np.float16)
        text = np.repeat(kinds[kind : kind + 1], 2 + i % 3, axis=0)
        has_text = i % 5 != 4
        clips.append(
            SyntheticClip(
                clip_id=content_digest("synthetic", str(seed), str(i)),
                split="val" if i < num_val else "train",
                latent=latent,
                short=text[:1] if has_text else None,
                dense=text if has_text and i % 2 else None,
            )
        )
    return clips


def write_dataset(root: Path, clips: list[SyntheticClip]) -> Path:
    """The parts of a DATASET directory that training reads."""
    shards, latents, texts = [], [], []
    for split in ("train", "val"):
        members = [c for c in clips if c.split == split]
        places = {
            kind: {
                m.key: {"shard": m.shard, "offset": m.offset, "size": m.size}
                for m in write_tar(str(root / kind / f"{split}-000000.tar"), payloads)
            }
            for kind, payloads in (
                (
                    "latents/lat0",
                    [(c.clip_id, {"safetensors": arrays_to_bytes(_latent(c))}) for c in members],
                ),
                (
                    "text/txt0",
                    [(c.clip_id, {"safetensors": arrays_to_bytes(_states(c))}) for c in members if _states(c)],
                ),
            )
        }
        for c in members:
            t, h, w = c.latent.shape[1:]
            shards.append(
                {
                    "clip_id": c.clip_id,
                    "kind": "image" if t == 1 else "video",
                    "split": split,
                    **{caption_column(level): _text(_states(c).get(level)) for level in LEVELS},
                }
            )
            sides = {"latent_t": t, "latent_h": h, "latent_w": w, "fps": 12.0}
            latents.append({"clip_id": c.clip_id, "split": split, **places["latents/lat0"][c.clip_id], **sides})
            if _states(c):
                counts = [len(state) for state in _states(c).values()]
                lists = {"names": list(_states(c)), "num_tokens": counts, "num_uncut_tokens": counts}
                texts.append({"clip_id": c.clip_id, "split": split, **places["text/txt0"][c.clip_id], **lists})
    _write(root / "shards/index.parquet", shards)
    for folder, rows, record in (("latents/lat0", latents, LATENTS_RECORD), ("text/txt0", texts, TEXT_RECORD)):
        _write(root / folder / "index.parquet", rows)
        (root / folder / "fingerprint.json").write_text(json.dumps(record))
    return root


def add_latents(
    dataset: Path,
    name: str,
    change: Callable[[np.ndarray], np.ndarray],
    *,
    of: str = "lat0",
    every: int = 1,
    slower: int = 1,
) -> None:
    """Every n-th latent (C, T, H, W) of fingerprint `of` again as `name`, changed, and at a rate that is so much
    slower."""
    old, new = dataset / "latents" / of, dataset / "latents" / name
    known, reader, rows = pq.read_table(old / "index.parquet").to_pylist()[::every], TarReader(str(old)), []
    for split in ("train", "val"):
        members = {row["clip_id"]: row for row in known if row["split"] == split}
        changed = {
            clip: np.ascontiguousarray(change(load(read_member(reader, row))["latent"]))
            for clip, row in members.items()
        }
        samples = ((clip, {"safetensors": arrays_to_bytes({"latent": latent})}) for clip, latent in changed.items())
        for member in write_tar(str(new / f"{split}-000000.tar"), samples):
            sides = dict(zip(("latent_t", "latent_h", "latent_w"), changed[member.key].shape[1:], strict=True))
            place = {"shard": member.shard, "offset": member.offset, "size": member.size}
            row = members[member.key]
            rows.append(row | place | sides | {"fps": row["fps"] / slower})
    _write(new / "index.parquet", rows)
    (new / "fingerprint.json").write_text(json.dumps({**LATENTS_RECORD, "fingerprint": name}))


def _latent(clip: SyntheticClip) -> dict[str, np.ndarray]:
    return {"latent": clip.latent} | ({} if clip.logvar is None else {"logvar": clip.logvar})


def _states(clip: SyntheticClip) -> dict[str, np.ndarray]:
    return {name: s for name, s in (("short", clip.short), ("dense", clip.dense)) if s is not None} | dict(clip.others)


def _text(states: np.ndarray | None) -> str | None:
    """A caption that reads differently where its states differ."""
    return None if states is None else str(states.sum())


def _write(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
