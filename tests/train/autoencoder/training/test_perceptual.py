"""A network that sees the error of a few frames: its part of the loss, in steps, checkpoints and held-out rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.forks import start_both
from tests.support.video_networks import write_i3d
from tests.train.autoencoder.training.test_loop import _one_of_two, config, run
from train.autoencoder.training.config import LossConfig, TrainAutoencoderConfig
from train.autoencoder.training.loop import AutoencoderRun
from train.autoencoder.training.loss import ReconstructionLoss, reconstruction_loss
from train.autoencoder.training.measure import held_out_judges, measure
from train.autoencoder.training.own_network import OwnNetwork
from train.run.checkpoint import list_checkpoints

CPU = torch.device("cpu")
CROPS = {
    "sizes_px": [[32, 32]], "lengths": [1, 5], "batch_px": 32 * 32 * 10, "decoded_px": 32, "short_side_px": [32, 32],
    "recolor": 0.0, "bars": 0.0,
}  # fmt: skip
NAME = "features_efficientnet_lite0"


class Watched:
    """Counts the frames that it is given."""

    name, min_side_px = "watched", 1

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def __call__(self, frames: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        self.seen.append(others.flatten(1)[:, 0])
        return (frames - others).square().mean((1, 2, 3))


def watched(frames_per_batch: int, weight: float = 0.5) -> tuple[ReconstructionLoss, Watched]:
    settings = {"perceptual": {"weight": weight, "frames_per_batch": frames_per_batch}}
    cost = ReconstructionLoss(LossConfig.model_validate(settings), CPU)
    cost._distance = Watched()
    return cost, cost._distance


def test_a_few_frames_are_drawn_by_the_step_and_each_is_compared_with_its_source() -> None:
    cost, network = watched(3)
    video = torch.arange(10.0).view(2, 1, 5, 1, 1).expand(2, 3, 5, 8, 8)
    out = (video + 0.1).requires_grad_()
    for seed in (0, 0, 1):
        loss, parts = cost(out, video, torch.Generator().manual_seed(seed))
        assert parts["watched"].item() == pytest.approx(0.01, rel=1e-3)  # frames of one number are 0.1 apart
    torch.testing.assert_close(loss, reconstruction_loss(out, video, cost.config) + 0.5 * parts["watched"])
    assert [len(seen.unique()) for seen in network.seen] == [3, 3, 3]
    assert torch.equal(network.seen[0], network.seen[1]) and not torch.equal(network.seen[0], network.seen[2])
    loss.backward()
    assert out.grad is not None and out.grad.isfinite().all()


def test_a_batch_with_fewer_frames_is_seen_whole() -> None:
    cost, network = watched(4)
    video = torch.zeros(1, 3, 2, 8, 8)
    cost(video, video, torch.Generator())
    assert len(network.seen[0]) == 2


def settings(**changed: Any) -> Any:
    perceptual = {"distance": {"kind": "features"}, "frames_per_batch": 1, **changed}
    return config(steps=6, clips=CROPS, loss={"perceptual": perceptual}, held_out={"every": 6, "max_area_px": 1024})


def test_a_run_with_it_resumes_bitwise_and_keeps_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    optimize = AutoencoderRun._optimize

    def stops(self: AutoencoderRun, video: torch.Tensor) -> dict[str, Any]:
        if self.step == 5:
            raise KeyboardInterrupt
        return optimize(self, video)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(AutoencoderRun, "_optimize", stops)
        run(tmp_path / "stopped", settings())
    saved = list_checkpoints(tmp_path / "stopped" / "checkpoints")
    rows = [run(tmp_path / name, settings()) for name in ("whole", "stopped")]
    timeless = [[{k: v for k, v in row.items() if k != "seconds"} for row in of_run] for of_run in rows]
    assert timeless[0] == timeless[1] and all(row[NAME] > 0 for row in rows[0] if "loss" in row)
    whole, resumed = (tmp_path / name / "weights" / "model.safetensors" for name in ("whole", "stopped"))
    assert whole.read_bytes() == resumed.read_bytes()
    files = [file for file in Path(saved[-1]).rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 4_000_000  # the network alone has 18


def test_held_out_rows_have_the_distance_of_the_loss_and_those_of_the_settings(tmp_path: Path) -> None:
    networks = ({"kind": "i3d", "path": str(write_i3d(tmp_path / "tiny.pt")), "num_frames": 10},)
    chosen = settings(distance={"kind": "features"}).model_dump()
    chosen["held_out"] |= {"distances": [{"kind": "features"}], "rfvd": networks}
    judges = held_out_judges(TrainAutoencoderConfig.model_validate(chosen), CPU)
    assert [judge.name for judge in judges.frames] == [NAME]
    clips = [np.random.default_rng(seed).integers(0, 256, (13, 32, 32, 3), np.uint8) for seed in range(2)]
    found = measure(OwnNetwork(settings().network), clips, judges, 0).metrics
    assert 0 < found[NAME] < 2 and found["rfvd_tiny_10"] > 0 and found["rfvd_tiny_10_clips"] == 2


def test_it_trains_under_bfloat16_and_changes_what_is_learned(tmp_path: Path) -> None:
    def weights(name: str, **changed: Any) -> bytes:
        rows = run(tmp_path / name, settings(**changed).model_copy(update={"dtype": "bfloat16", "steps": 2}))
        assert all(row["loss"] > row[NAME] * changed["weight"] for row in rows if "loss" in row)
        return (tmp_path / name / "weights" / "model.safetensors").read_bytes()

    assert weights("weak", weight=1e-6) != weights("strong", weight=1.0)


@pytest.mark.slow
def test_two_ranks_train_one_network_with_it(tmp_path: Path) -> None:
    start_both(_one_of_two, str(tmp_path), settings().model_copy(update={"steps": 2}).model_dump_json())
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row[NAME] > 0 for row in rows if "loss" in row] == [True] * 2


def test_crops_that_are_too_small_for_it_are_refused() -> None:
    with pytest.raises(ValueError, match=r"clips.sizes_px: .*features_efficientnet_lite0 sees 32 px or more"):
        config(loss={"perceptual": {}})
    with pytest.raises(ValueError, match=r"lpips_alex sees 31 px or more"):
        config(loss={"perceptual": {"distance": {"kind": "lpips", "net": "alex"}}})
