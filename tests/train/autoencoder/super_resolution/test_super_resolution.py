"""Super-resolution of decoded videos: it begins as bilinear, learns, resumes bitwise, and enlarges in chunks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.train.autoencoder.models import save_own
from tests.train.autoencoder.training.test_loop import ALONE, Squares
from train.autoencoder.bottlenecks.config import KLConfig
from train.autoencoder.super_resolution.config import SuperResolutionConfig
from train.autoencoder.super_resolution.folder import CHUNK, EMBEDDED, enlarged, load
from train.autoencoder.super_resolution.network import SuperResolution, interpolated, reduced
from train.autoencoder.super_resolution.trained import TrainedSuperResolution
from train.autoencoder.training.config import TrainAutoencoderConfig
from train.autoencoder.training.loop import AutoencoderRun
from train.run.spool import Spool

CPU = torch.device("cpu")


def disturbed(**settings: Any) -> SuperResolution:
    torch.manual_seed(0)
    model = SuperResolution(SuperResolutionConfig(width=8, num_blocks=2, **settings))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval().requires_grad_(False)


def settings_for(base: Path, **settings: Any) -> TrainAutoencoderConfig:
    return TrainAutoencoderConfig.model_validate(
        {
            "super_resolution": {"base": {"kind": "reelpack", "path": str(base), "device": "cpu"}, "width": 16},
            "clips": {
                "sizes_px": [[16, 32]], "lengths": [1, 5], "batch_px": 16 * 32 * 10, "decoded_px": 24,
                "short_side_px": [24, 24], "recolor": 0.0, "bars": 0.0,
            },
            "optimizer": {"lr": 5e-3, "warmup_steps": 2, "clip_norm": 0.5},
            "steps": 24, "dtype": "float32", "num_measured": 1, "checkpoint": {"every": 2}, "held_out": {"every": 24},
            **settings,
        }
    )  # fmt: skip


def run(out: Path, settings: TrainAutoencoderConfig, stop_at: int | None = None) -> list[dict[str, Any]]:
    assert settings.super_resolution is not None
    torch.manual_seed(0)
    model = TrainedSuperResolution(settings.super_resolution, settings.super_resolution.base.build())
    out.mkdir(exist_ok=True)
    with Spool(out, writes=True) as spool:
        training = AutoencoderRun(out, settings, model, Squares(), ALONE, spool)
        optimize = training._optimize

        def stops(video: Tensor) -> dict[str, Any]:
            if training.step == stop_at:
                raise KeyboardInterrupt
            return optimize(video)

        training._optimize = stops  # type: ignore[method-assign]
        return training.train()


@pytest.mark.parametrize(("factor", "reduction"), [(2, 1), (2, 2), (4, 2)])
def test_it_begins_as_bilinear_interpolation(factor: int, reduction: int) -> None:
    torch.manual_seed(0)
    model = SuperResolution(SuperResolutionConfig.model_validate({"factor": factor, "reduction": reduction}))
    video = torch.rand(2, 3, 5, 8, 12) * 2 - 1
    out = model(video)
    assert out.shape == (2, 3, 5, 8 * factor, 12 * factor)
    assert torch.equal(out, interpolated(video, factor))
    assert torch.allclose(reduced(torch.full((1, 3, 2, 8, 8), 0.5), factor), torch.tensor(0.5))


def test_a_video_in_chunks_is_the_whole_and_frames_see_earlier_ones_alone() -> None:
    model = disturbed()
    rgb = np.random.default_rng(0).integers(0, 256, (2 * CHUNK + 1, 8, 12, 3), dtype=np.uint8)
    whole = enlarged(model, rgb, CPU)
    assert whole.shape == (len(rgb), 16, 24, 3)
    video = torch.tensor(rgb).permute(3, 0, 1, 2)[None] / 127.5 - 1
    at_once = ((model(video)[0].permute(1, 2, 3, 0) + 1) * 127.5).round().clamp(0, 255)
    assert (at_once - torch.tensor(whole)).abs().max() <= 1
    later = rgb.copy()
    later[CHUNK + 1 :] = 0
    assert np.array_equal(enlarged(model, later, CPU)[: CHUNK + 1], whole[: CHUNK + 1])
    alone = enlarged(model, rgb[CHUNK : CHUNK + 1], CPU)
    assert not np.array_equal(alone[0], whole[CHUNK])  # it does see them


def test_it_learns_from_what_its_base_decodes_and_leaves_the_base(tmp_path: Path) -> None:
    base = save_own(KLConfig(), tmp_path / "base")
    before = (tmp_path / "base/model.safetensors").read_bytes()
    rows = run(tmp_path / "run", settings_for(tmp_path / "base"))
    held_out = {row["step"]: row["held_out"] for row in rows if "held_out" in row}
    assert list(held_out) == [0, 24]  # bilinear, and trained
    assert held_out[24]["psnr_db"] > held_out[0]["psnr_db"] + 1
    assert (tmp_path / "base/model.safetensors").read_bytes() == before
    model, found = load(str(tmp_path / "run/weights"), CPU)
    assert (found.base_fingerprint, found.factor, found.width) == (base.build().fingerprint, 2, 16)
    clip = Squares().read(Squares().held_out[0], 0, 5, 24)[:, :16]
    small = clip.reshape(5, 8, 2, 16, 2, 3).mean(axis=(2, 4)).round().astype(np.uint8)
    assert enlarged(model, small, CPU).shape == clip.shape


def test_a_stopped_run_resumes_bitwise(tmp_path: Path) -> None:
    save_own(KLConfig(), tmp_path / "base")
    settings = settings_for(tmp_path / "base", steps=5, held_out={"every": 0})
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", settings, stop_at=3)
    for name in ("whole", "stopped"):
        run(tmp_path / name, settings)
    weights = [(tmp_path / name / "weights/model.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    "others",
    [{"network": {"latent_channels": 4}}, {"init": "embedded"}, {"temporal_decoder": {"base": {"kind": "reelpack"}}}],
)
def test_it_is_trained_alone(tmp_path: Path, others: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="super_resolution"):
        settings_for(tmp_path, **others)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    save_own(KLConfig(), tmp_path)
    for name, why in ((str(tmp_path), "of something else"), (str(tmp_path / "missing"), "FileNotFoundError")):
        told = rf"sample\.super_resolution=.*no such network there .*{why}.*expected embedded"
        with pytest.raises(ValueError, match=told):
            load(name, CPU)


def test_the_embedded_network_is_of_the_embedded_autoencoder() -> None:
    from train.autoencoder.own import ReelpackAutoencoder

    _, found = load("embedded", CPU)
    assert found.base_fingerprint == ReelpackAutoencoder.from_pretrained(device="cpu").fingerprint
    assert sum(file.stat().st_size for file in EMBEDDED.iterdir()) < 1_000_000
