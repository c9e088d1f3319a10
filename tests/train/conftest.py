"""A tiny encoded dataset, written with the project's own tar writer: smooth latents, captions that tell their kind."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import settings
from safetensors.numpy import save

from curate.schema import content_digest
from curate.shards.tar import write_tar
from train.segments import Sample

# A deadline per example would test how busy the machine is.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")

CHANNELS, TEXT_DIM = 4, 12
LATENTS_RECORD = {"fingerprint": "lat0", "channels": CHANNELS, "temporal_stride": 4, "spatial_stride": 8}
TEXT_RECORD = {"fingerprint": "txt0", "encoder": "synthetic", "dim": TEXT_DIM, "max_tokens": 16}


@dataclass(frozen=True, kw_only=True, slots=True)
class SyntheticClip:
    """`latent` (C, T, H, W); `short` and `dense` (n, D_text) or None."""

    clip_id: str
    split: str
    latent: np.ndarray
    short: np.ndarray | None
    dense: np.ndarray | None


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
                ("latents/lat0", [(c.clip_id, {"safetensors": save({"latent": c.latent})}) for c in members]),
                ("text/txt0", [(c.clip_id, {"safetensors": save(_states(c))}) for c in members if _states(c)]),
            )
        }
        for c in members:
            t, h, w = c.latent.shape[1:]
            shards.append(
                {
                    "clip_id": c.clip_id,
                    "kind": "image" if t == 1 else "video",
                    "split": split,
                    "caption_short": None if c.short is None else str(c.short.sum()),
                    "caption_dense": None if c.dense is None else str(c.dense.sum()),
                }
            )
            sides = {"latent_t": t, "latent_h": h, "latent_w": w, "fps": 12.0}
            latents.append({"clip_id": c.clip_id, "split": split, **places["latents/lat0"][c.clip_id], **sides})
            if _states(c):
                tokens = {f"num_tokens_{kind}": len(state) for kind, state in _states(c).items()}
                places["text/txt0"][c.clip_id] |= {"num_tokens_short": None, "num_tokens_dense": None} | tokens
                texts.append({"clip_id": c.clip_id, "split": split, **places["text/txt0"][c.clip_id]})
    _write(root / "shards/index.parquet", shards)
    for folder, rows, record in (("latents/lat0", latents, LATENTS_RECORD), ("text/txt0", texts, TEXT_RECORD)):
        _write(root / folder / "index.parquet", rows)
        (root / folder / "fingerprint.json").write_text(json.dumps(record))
    return root


def _states(clip: SyntheticClip) -> dict[str, np.ndarray]:
    return {kind: s for kind, s in (("short", clip.short), ("dense", clip.dense)) if s is not None}


def _write(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """20 training and 4 held-out clips."""
    return str(write_dataset(tmp_path_factory.mktemp("dataset"), smooth_clips(24, num_val=4)))


@pytest.fixture
def make_clips() -> Callable[..., list[SyntheticClip]]:
    return smooth_clips


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[[list[SyntheticClip]], Path]:
    return lambda clips: write_dataset(tmp_path / "dataset", clips)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def ragged_samples(seed: int = 0) -> list[Sample]:
    """Videos and images of unlike grids, captions of unlike length, one without; unlike timesteps and rates."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, 4, 6), (1, 4, 4), (1, 4, 4), (2, 6, 2), (4, 2, 2), (1, 2, 8)]
    text_lengths = [3, 1, None, 5, 2, 4]
    return [
        Sample(
            clip_id=f"clip-{i}",
            latent=torch.randn(CHANNELS, *shape, generator=generator),
            noise=torch.randn(CHANNELS, *shape, generator=generator),
            timestep=(i + 0.5) / len(shapes),
            fps=0.0 if shape[0] == 1 else 8.0 * (i + 1),
            text=None if n is None else torch.randn(n, TEXT_DIM, generator=generator),
        )
        for i, (shape, n) in enumerate(zip(shapes, text_lengths, strict=True))
    ]


@pytest.fixture
def samples() -> list[Sample]:
    return ragged_samples()
