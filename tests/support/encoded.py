"""Latents or text embeddings of a curated dataset, as `encode` leaves them: tars, the table, the index."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from curate.dataset.dataset import Dataset
from curate.dataset.layout import Encoded
from curate.dataset.store import write_parquet
from curate.shards.tar import PLACE, write_tar
from curate.storage.tensors import arrays_to_bytes

LATENT = arrays_to_bytes({"latent": np.arange(64, dtype=np.float32).reshape(4, 1, 4, 4) + 0.125})


def encoded(dataset: Dataset, kind: Encoded, record: Mapping[str, Any], *tars: Sequence[str]) -> None:
    """Each tar holds the latents of some clips; the index points at those in the last one."""
    layout = dataset.layout.encoded(kind, record["fingerprint"])
    table = dataset.encoded(kind, record["fingerprint"])
    digests = {row["clip_id"]: row["digest"] for row in dataset.read_index().to_pylist()}
    facts = {"split": "train", "latent_c": 4, "latent_t": 1, "latent_h": 4, "latent_w": 4, "window": 0}
    for number, names in enumerate(tars):
        samples = [(name, {"safetensors": LATENT}) for name in names]
        members = write_tar(f"{layout.url}/train-{number:06d}.tar", samples)
        table.publish(
            {
                **facts,
                **{name: getattr(member, name) for name in PLACE},
                "clip_id": member.key,
                "media_digest": digests[member.key] if kind == "latents" else None,
            }
            for member in members
        )
    write_parquet(layout.index, table.read())
    Path(layout.record).write_text(json.dumps(record))
