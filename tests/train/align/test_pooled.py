"""Alignment to the clips' embeddings, in the loop."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from curate.dataset.table import TableReader
from tests.support.latents import smooth_clips, write_dataset
from tests.train.test_loop import Stopped, assert_equal_runs, config, logged, on_ranks, stop_after
from train.align.pooled import EMBEDDINGS, find_family, read_targets
from train.loop import train
from train.model.dit import DiT
from train.run.config import TrainConfig
from train.run.export import export_run

ALIGNED = {"align__weight": 0.5, "align__block": 0, "align__projector_dim": 64}


def write_embeddings(dataset: Path, part: int, vectors: dict[str, np.ndarray], family: str = "embedding-0") -> None:
    """As curation stores them."""
    folder = dataset / "tables/scores" / family
    folder.mkdir(parents=True, exist_ok=True)
    column = pa.array([v.tolist() for v in vectors.values()], pa.list_(pa.float32()))
    table = pa.table([list(vectors), column], schema=TableReader(str(folder), EMBEDDINGS, ["clip_id"]).schema)
    pq.write_table(table, folder / f"part-{part:06d}-x.parquet")


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A dataset whose embeddings say of which of five kinds a clip is; one clip has none."""
    clips = smooth_clips(24, num_val=4)
    root = write_dataset(tmp_path_factory.mktemp("embedded"), clips)
    write_embeddings(root, 0, {c.clip_id: np.eye(6)[i % 5] for i, c in enumerate(clips) if i != 9})
    return str(root)


def align_losses(run: Path) -> list[float]:
    return [row["align_loss"] for row in logged(run) if "loss" in row]


def test_features_come_to_point_where_the_embeddings_do(embedded: str, tmp_path: Path):
    settings = config(steps=40, **ALIGNED, optimizer__schedule="constant", evaluate__held_out__first=0)
    summary = train(settings, embedded, tmp_path / "run")
    losses = align_losses(tmp_path / "run")
    print(f"{np.mean(losses[:3]):.3f} → {np.mean(losses[-10:]):.3f}")
    assert max(losses[:3]) > 0.35 and np.mean(losses[-10:]) < 0.5 * np.mean(losses[:3])
    model = DiT.from_pretrained(export_run(tmp_path / "run", tmp_path / "exported"))
    assert not [name for name, _ in model.named_parameters() if "projector" in name]
    projector = (32 * 64 + 64) + (64 * 64 + 64) + (64 * 6 + 6)  # three layers, two of projector_dim
    assert summary.num_parameters == projector + sum(weight.numel() for weight in model.parameters())


def test_an_aligned_run_that_stopped_continues_bitwise(embedded: str, tmp_path: Path):
    train(config(**ALIGNED), embedded, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(config(**ALIGNED), embedded, tmp_path / "cut", on_step=stop_after(5))
    train(config(**ALIGNED), embedded, tmp_path / "cut")
    assert logged(tmp_path / "cut") == logged(tmp_path / "whole")
    assert all(value > 0 for value in align_losses(tmp_path / "cut"))


def test_the_memory_that_is_told_counts_the_projector(embedded: str, tmp_path: Path):
    told: list[Any] = []
    summary = train(config(steps=1, **ALIGNED), embedded, tmp_path, on_start=told.append)
    assert told[0].num_parameters == summary.num_parameters


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_two_aligned_ranks_train_as_one(embedded: str, tmp_path: Path, mode: str):
    settings = config(steps=4, **ALIGNED, data__plan__packs_per_step=4, parallel__mode=mode)
    train(settings, embedded, tmp_path / "one")
    assert_equal_runs(logged(tmp_path / "one"), on_ranks(2, settings, embedded, tmp_path / "two"))
    assert align_losses(tmp_path / "one") == pytest.approx(align_losses(tmp_path / "two"), rel=1e-5)


def test_the_later_part_counts_and_a_clip_without_embedding_has_no_target(tmp_path: Path):
    a, b = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    write_embeddings(tmp_path, 1, {"x": b})
    write_embeddings(tmp_path, 0, {"x": a, "y": a, "z": a})
    targets = read_targets([str(tmp_path)], "embedding-0", ["x", "y", "w"])
    found = targets.of(["w", "y", "x", "z"])
    assert found[1:3].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert found[[0, 3]].isnan().all(), "z is not trained on"
    assert targets.of(["x"]).dtype == torch.float32
    with pytest.raises(ValueError, match=r"no clip that is trained on has an embedding.*align\.weight=0"):
        read_targets([str(tmp_path)], "embedding-0", ["v"])


def test_which_embeddings_are_meant_must_be_plain(embedded: str, dataset: str, tmp_path: Path):
    with pytest.raises(ValueError, match=r"there is none.*scorer `embedding`"):
        train(config(**ALIGNED), dataset, tmp_path / "run")
    for family in ("embedding-1", "embedding-2"):
        write_embeddings(tmp_path, 0, {"x": np.ones(2)}, family)
    with pytest.raises(ValueError, match="there are embedding-1, embedding-2; name one"):
        find_family([str(tmp_path)], "auto")
    assert find_family([str(tmp_path)], "embedding-2") == "embedding-2"
    settings: dict[str, Any] = {"model": {"depth": 2}, "align": {"weight": 0.5, "block": 2}}
    with pytest.raises(ValueError, match=r"align\.block is 2, and the model has 2 blocks"):
        TrainConfig.model_validate(settings)
