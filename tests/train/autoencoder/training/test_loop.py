"""The loop: it learns, resumes bitwise, on two ranks as on one, with every bottleneck."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from curate.schema import content_digest
from tests.support.forks import start_both
from train.autoencoder.config import ReelpackConfig
from train.autoencoder.training.clips import Clip
from train.autoencoder.training.config import LossConfig, TrainAutoencoderConfig
from train.autoencoder.training.loop import AutoencoderRun
from train.autoencoder.training.loss import reconstruction_loss
from train.autoencoder.training.own_network import OwnNetwork
from train.autoencoder.weights_folder import load
from train.distributed.parallelize import full_tensor
from train.distributed.ranks import RankGrid
from train.run.checkpoint import list_checkpoints
from train.run.spool import Spool

BOTTLENECKS = {
    "kl": {"kind": "kl", "weight": 1e-5},
    "vq": {"kind": "vq", "codebook_size": 64},
    "fsq": {"kind": "fsq", "levels": [8, 8, 5, 5]},
}
ALONE = RankGrid(rank=0, world_size=1, device=torch.device("cpu"))


class Squares:
    """Squares that move over a gradient, 24 x 32 px."""

    def __init__(self, num_train: int = 4) -> None:
        self.train = [Clip(clip_id=str(number), num_frames=9) for number in range(num_train)]
        self.held_out = [Clip(clip_id="100", num_frames=9), Clip(clip_id="101", num_frames=1)]
        self.key = content_digest("squares")

    def read(self, clip: Clip, start: int, num_frames: int, short_side_px: int) -> np.ndarray:
        rng = np.random.default_rng(int(clip.clip_id))
        color, x, y = rng.integers(0, 256, 3), int(rng.integers(16)), int(rng.integers(16))
        frames = np.zeros((num_frames, 24, 32, 3), np.uint8)
        frames[..., 2] = np.linspace(60, 200, 32, dtype=np.uint8)
        for t in range(num_frames):
            frames[t, y : y + 8, min(24, x + start + t) : x + start + t + 8] = color
        return frames


def config(bottleneck: str = "kl", **settings: Any) -> TrainAutoencoderConfig:
    return TrainAutoencoderConfig.model_validate(
        {
            "network": {"latent_channels": 4, "widths": [8, 12, 16], "bottleneck": BOTTLENECKS[bottleneck]},
            "clips": {
                "sizes_px": [[24, 32]], "lengths": [1, 5], "batch_px": 24 * 32 * 10, "decoded_px": 24,
                "short_side_px": [24, 24], "recolor": 0.0, "bars": 0.0,
            },
            "optimizer": {"lr": 5e-3, "warmup_steps": 2, "schedule": "cosine", "clip_norm": 0.5},
            "steps": 4, "dtype": "float32", "num_measured": 3, "checkpoint": {"every": 2}, "held_out": {"every": 2},
            **settings,
        }
    )  # fmt: skip


def begun(out: Path, settings: TrainAutoencoderConfig, spool: Spool, ranks: RankGrid = ALONE) -> AutoencoderRun:
    torch.manual_seed(0)
    return AutoencoderRun(out, settings, OwnNetwork(settings.network), Squares(), ranks, spool)


def run(out: Path, settings: TrainAutoencoderConfig) -> list[dict[str, Any]]:
    out.mkdir(exist_ok=True)
    with Spool(out, writes=True) as spool:
        return begun(out, settings, spool).train()


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_a_tiny_autoencoder_learns_and_its_latents_are_normal(bottleneck: str, tmp_path: Path) -> None:
    rows = run(tmp_path, config(bottleneck, steps=80, held_out={"every": 40}))
    losses = [row["loss"] for row in rows if "loss" in row]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    held_out = [row["held_out"] for row in rows if "held_out" in row]
    assert len(held_out) == 2 and held_out[1]["psnr_db"] > held_out[0]["psnr_db"]
    assert held_out[1]["worst_psnr_db"] <= held_out[1]["psnr_db"] and 0 < held_out[1]["ssim"] < 1
    assert ("code_usage" in held_out[1]) == (bottleneck != "kl")
    autoencoder = ReelpackConfig(path=str(tmp_path / "weights"), device="cpu").build()
    assert autoencoder.name == f"reelpack_{bottleneck}"
    video = torch.from_numpy(Squares().read(Squares().train[0], 0, 9, 24)).permute(3, 0, 1, 2)[None] / 127.5 - 1
    latent = autoencoder.encode(video)
    assert latent.abs().mean() < 3 and latent.std() > 0.2
    assert autoencoder.decode(latent).shape == video.shape


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_a_stopped_run_resumes_bitwise(bottleneck: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    optimize = AutoencoderRun._optimize

    def stops(self: AutoencoderRun, video: torch.Tensor) -> dict[str, Any]:
        if self.step == 5:
            raise KeyboardInterrupt
        return optimize(self, video)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(AutoencoderRun, "_optimize", stops)
        run(tmp_path / "stopped", config(bottleneck, steps=6))
    assert list_checkpoints(tmp_path / "stopped" / "checkpoints")
    rows = {name: run(tmp_path / name, config(bottleneck, steps=6)) for name in ("whole", "stopped")}
    for file in ("model.safetensors", "config.json"):
        whole, resumed = (tmp_path / name / "weights" / file for name in rows)
        assert whole.read_bytes() == resumed.read_bytes()
    timeless = [[{k: v for k, v in row.items() if k != "seconds"} for row in of_run] for of_run in rows.values()]
    assert timeless[0] == timeless[1]


def _one_of_two(rank: int, folder: str, settings: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    ranks, out = RankGrid.of_group(torch.device("cpu")), Path(folder, "run")
    out.mkdir(exist_ok=True)
    with Spool(out, writes=ranks.is_main) as spool:
        trained = begun(out, TrainAutoencoderConfig.model_validate_json(settings), spool, ranks)
        trained.train()
    opposed = {} if trained._opponent is None else trained._opponent.net.state_dict()
    whole = {name: full_tensor(value) for name, value in trained.model.state_dict().items()}
    torch.save({**whole, **opposed}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bottleneck", "loss"),
    [("kl", {}), ("vq", {}), ("kl", {"adversary": {"width": 8, "depth": 2, "start": 1, "lecam": 0.1}})],
)
def test_two_ranks_train_one_network(bottleneck: str, loss: dict[str, Any], tmp_path: Path) -> None:
    start_both(_one_of_two, str(tmp_path), config(bottleneck, loss=loss).model_dump_json())
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    model, _ = load(tmp_path / "run" / "weights")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4]
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    # On another number of ranks the run is at its end already.
    assert len(run(tmp_path / "run", config(bottleneck, loss=loss))) == len(rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bottleneck", "loss"), [("vq", {}), ("kl", {"adversary": {"width": 8, "depth": 2, "start": 1, "lecam": 0.1}})]
)
def test_sharded_ranks_learn_what_replicas_learn(bottleneck: str, loss: dict[str, Any], tmp_path: Path) -> None:
    learned, settings = {}, config(bottleneck, loss=loss)
    for mode in ("ddp", "fsdp"):
        parallel = {"mode": mode, "activation_checkpoint_every": 1 if mode == "fsdp" else 0}
        settings = config(bottleneck, loss=loss, parallel=parallel)
        (tmp_path / mode).mkdir()
        start_both(_one_of_two, str(tmp_path / mode), settings.model_dump_json())
        model, _ = load(tmp_path / mode / "run" / "weights")
        rows = [json.loads(line) for line in (tmp_path / mode / "run" / "metrics.jsonl").read_text().splitlines()]
        figures = [row.get("loss") or row["held_out"]["psnr_db"] for row in rows]
        learned[mode] = {**model.state_dict(), "figures": torch.tensor(figures), "mean": model.config.latent_mean}
    torch.testing.assert_close(learned["fsdp"], learned["ddp"], rtol=1e-3, atol=2e-4)  # weights are stored in float16
    assert len(run(tmp_path / "fsdp" / "run", settings)) == 6  # on one rank it is at its end


def test_activations_that_are_computed_again_are_the_same(tmp_path: Path) -> None:
    rows = [run(tmp_path / str(n), config("vq", parallel={"activation_checkpoint_every": n})) for n in (0, 1)]
    assert [row.get("loss") for row in rows[0]] == [row.get("loss") for row in rows[1]]


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"step \d+: the loss is .*optimizer.lr"):
        run(tmp_path, config(optimizer={"lr": 1e9, "warmup_steps": 0, "clip_norm": 1e9}, steps=20))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clips": {"lengths": [4]}}, "got \\[4\\]; a temporal stride of 4 takes 1 \\+ 4k frames"),
        ({"clips": {"sizes_px": [[20, 32]]}}, "expected multiples of the spatial stride, 8"),
        ({"clips": {"lengths": [1, 5], "length_odds": [1.0]}}, "1 numbers for 2 lengths"),
        ({"clips": {"short_side_px": [90, 80]}}, "least and most"),
        ({"parallel": {"compile": True}}, "parallel.compile: .* leave it false"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainAutoencoderConfig.model_validate(settings)


def test_loss_equals_a_naive_sum() -> None:
    out, video = torch.rand(1, 3, 2, 8, 8), torch.rand(1, 3, 2, 8, 8)

    def pooled(v: torch.Tensor, size: int) -> torch.Tensor:
        h, w = v.shape[-2] // size, v.shape[-1] // size
        return v.reshape(*v.shape[:3], h, size, w, size).mean(dim=(4, 6))

    edges = ((out[:, :, 1] - out[:, :, 0]) - (video[:, :, 1] - video[:, :, 0])).abs().mean()
    for size in (1, 2, 4):
        a, b = pooled(out, size), pooled(video, size)
        right = ((a[..., 1:] - a[..., :-1]) - (b[..., 1:] - b[..., :-1])).abs().mean()
        below = ((a[..., 1:, :] - a[..., :-1, :]) - (b[..., 1:, :] - b[..., :-1, :])).abs().mean()
        edges = edges + (right + below) / 2
    expected = (out - video).abs().mean() + 0.7 * edges
    torch.testing.assert_close(reconstruction_loss(out, video, LossConfig(edge_weight=0.7)), expected)
    squared = reconstruction_loss(out, video, LossConfig(pixel="l2", edge_weight=0))
    torch.testing.assert_close(squared, (out - video).square().mean())
