"""Alignment while a run trains: a block's features of a clip, pooled and projected, point where the clip's embedding
does (after REPA, Yu et al. 2024, §3.2, which aligns patch by patch).

The embeddings are those that curation has stored: DATASET/tables/scores/embedding-…, one vector per clip. The
projector is trained, saved and averaged with the model, and left out when it is sampled or exported.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor, nn

from curate.dataset.layout import Layout
from curate.dataset.table import TableReader, last_by_key
from curate.storage.place import children
from train.model.align import Projector, alignment_loss
from train.model.exchange import summed
from train.objective.base import Objective
from train.packing.batch import PackedBatch
from train.run.config import AlignConfig

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


class Alignment:
    """The alignment loss, which is added to that of the objective.

    Args:
        width: features per token of the aligned block.
        seed: of the projector's weights.
    """

    def __init__(self, config: AlignConfig, targets: Targets, width: int, seed: int) -> None:
        self.config, self.targets = config, targets
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.projector = Projector(width, targets.dim, config.projector_dim)

    def losses(self, model: nn.Module, objective: Objective, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """The objective's losses of tokens, (L,), and the sum of the samples' weighted alignment losses, from one
        forward pass. Of ranks that share a pack each computes the latter, and counts its part."""
        watched = _Watched(model, self.config.block)
        token_losses = objective.token_losses(watched, batch)
        means = batch.segments.mean(watched.features)  # (S, D)
        if batch.group is not None:
            means = summed(means, batch.group)
        projected = self.projector(means)  # (S, D)
        targets = self.targets.of(batch.clip_ids)  # (S, D_target)
        if projected.is_cuda:
            targets = targets.pin_memory().to(projected.device, non_blocking=True)  # or the device is waited for
        part = 1 if batch.group is None else batch.group.size
        return token_losses, self.config.weight * alignment_loss(projected, targets).sum() / part


class _Watched(nn.Module):
    """A model that remembers what one block gave in its last forward pass."""

    features: Tensor

    def __init__(self, model: nn.Module, block: int) -> None:
        super().__init__()
        self._call = model.__call__  # not as a module: whose parameters would then be counted twice
        self.block = block

    def forward(self, x: Tensor, timesteps: Tensor, batch: PackedBatch) -> Tensor:
        out, self.features = self._call(x, timesteps, batch, features_of=self.block)
        return out
