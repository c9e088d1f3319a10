"""Alignment by clip: the mean feature of a clip's tokens points where the clip's embedding does, a pooled REPA.

The embeddings are those that curation has stored: DATASET/tables/scores/embedding-…, one vector per clip.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from curate.dataset.layout import Layout
from curate.dataset.table import TableReader, last_by_key
from curate.storage.place import children
from train.align.base import Alignment
from train.align.loss import alignment_loss
from train.align.pooled_config import PooledConfig
from train.data.manifest import Manifest
from train.model.exchange import summed
from train.packing.batch import PackedBatch

EMBEDDINGS = pa.schema([("clip_id", pa.string()), ("embedding", pa.list_(pa.float32()))])


class Targets:
    """Embeddings of clips by id. In memory: half precision, of the clips that are trained on."""

    def __init__(self, clip_ids: Sequence[str], vectors: np.ndarray) -> None:
        self._rows = {clip_id: row for row, clip_id in enumerate(clip_ids)}
        self._vectors = torch.tensor(vectors).half()  # (N, D)

    @property
    def dim(self) -> int:
        return self._vectors.shape[1]

    def of(self, clip_ids: Sequence[str]) -> Tensor:
        """(S, D) float32; NaN where a clip has none."""
        rows = torch.tensor([self._rows.get(clip_id, -1) for clip_id in clip_ids])
        found = self._vectors[rows.clamp(min=0)].float()
        return found.masked_fill((rows < 0)[:, None], torch.nan)


def find_family(datasets: Sequence[str], name: str) -> str:
    """The score family that holds the embeddings, in every dataset.

    Raises:
        ValueError: it is not there, or there are several and none is named.
    """
    families = {_find_family(dataset, name) for dataset in datasets}
    if len(families) > 1:
        raise ValueError(
            f"train.align.embedding={name}: the datasets have {', '.join(sorted(families))}; `reelpack curate` them "
            "with the same scorer `embedding`, or set train.align.weight=0"
        )
    return families.pop()


def _find_family(dataset: str, name: str) -> str:
    root = Layout(dataset).scores()
    families = [family for family in children(root) if family.startswith("embedding-")]
    found = [family for family in families if _table(dataset, family).part_names()]
    if name == "auto" and len(found) == 1:
        return found[0]
    if name not in found:
        there = f"there are {', '.join(found)}; name one" if found else "there is none"
        raise ValueError(
            f"train.align.embedding={name}: {there} (below {root}). `reelpack curate` writes one "
            "with the scorer `embedding`; train.align.weight=0 trains without"
        )
    return name


def read_targets(datasets: Sequence[str], family: str, clip_ids: Sequence[str]) -> Targets:
    """Embeddings of these clips; of a clip that stands in two parts the later one counts, as in every table.

    Raises:
        ValueError: none of them has one.
    """
    wanted = pa.array(sorted(set(clip_ids)), pa.string())
    parts = (part for dataset in datasets for part in _table(dataset, family).parts())
    found = [part.filter(pc.is_in(part["clip_id"], wanted)) for part in parts]
    table = last_by_key(pa.concat_tables([EMBEDDINGS.empty_table(), *found]), ["clip_id"])
    if not table.num_rows:
        raise ValueError(
            f"{', '.join(datasets)}: no clip that is trained on has an embedding in {family}; set train.align.weight=0"
        )
    vectors = table["embedding"].combine_chunks()
    return Targets(table["clip_id"].to_pylist(), vectors.flatten().to_numpy().reshape(table.num_rows, -1))


def _table(dataset: str, family: str) -> TableReader:
    return TableReader(Layout(dataset).scores(family), EMBEDDINGS, ["clip_id"])


def of_manifest(config: PooledConfig, manifest: Manifest, width: int, seed: int) -> "PooledAlignment":
    """See `AlignSettings.build`."""
    urls = [part.url for part in manifest.parts]
    family = find_family(urls, config.embedding)
    return PooledAlignment(config, family, read_targets(urls, family, manifest.clip_ids), width, seed)


class PooledAlignment(Alignment):
    """To the embeddings of a score family."""

    def __init__(self, config: PooledConfig, family: str, targets: Targets, width: int, seed: int) -> None:
        super().__init__(config, family, width=width, dim=targets.dim, seed=seed)
        self._targets = targets

    def loss_sum(self, features: Tensor, batch: PackedBatch) -> Tensor:
        """Of ranks that share a pack each computes all of it, and counts its part."""
        means = batch.segments.mean(features)  # (S, D): over a segment's own tokens alone, those that were kept
        if batch.group is not None:
            means = summed(means, batch.group)
        projected = self.projector(means)  # (S, D)
        targets = self._targets.of(batch.clip_ids)  # (S, D_target)
        if projected.is_cuda:
            targets = targets.pin_memory().to(projected.device, non_blocking=True)  # or the device is waited for
        return alignment_loss(projected, targets).sum() / (1 if batch.group is None else batch.group.size)
