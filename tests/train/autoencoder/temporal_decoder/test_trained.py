"""Training a temporal decoder: the layers alone learn, the figures before are kept, and a run resumes bitwise."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.train.autoencoder.temporal_decoder.test_network import base_of
from tests.train.autoencoder.training.test_loop import ALONE, Squares
from train.autoencoder.base import VideoAutoencoder
from train.autoencoder.config import DiffusersAutoencoderConfig, ReelpackConfig
from train.autoencoder.temporal_decoder.config import TemporalDecoderConfig
from train.autoencoder.temporal_decoder.trained import TrainedTemporalDecoder
from train.autoencoder.temporal_decoder.training_config import TrainTemporalDecoderConfig
from train.autoencoder.training.config import TrainAutoencoderConfig
from train.autoencoder.training.loop import AutoencoderRun
from train.run.checkpoint import list_checkpoints
from train.run.spool import Spool

KINDS = {"stable_diffusion": DiffusersAutoencoderConfig, "images": ReelpackConfig}


def settings_for(folder: Path, name: str, trains: str = "temporal", **settings: Any) -> TrainAutoencoderConfig:
    kind = "diffusers" if KINDS[name] is DiffusersAutoencoderConfig else "reelpack"
    return TrainAutoencoderConfig.model_validate(
        {
            "temporal_decoder": {"base": {"kind": kind, "path": str(folder), "device": "cpu"}, "trains": trains},
            "clips": {
                "sizes_px": [[24, 32]], "lengths": [1, 4], "batch_px": 24 * 32 * 8, "decoded_px": 24,
                "short_side_px": [24, 24], "recolor": 0.0, "bars": 0.0,
            },
            "optimizer": {"lr": 5e-3, "warmup_steps": 2, "clip_norm": 0.5},
            "loss": {"adversary": {"width": 8, "depth": 2, "start": 1}},
            "steps": 4, "dtype": "float32", "num_measured": 1, "checkpoint": {"every": 2}, "held_out": {"every": 2},
            **settings,
        }
    )  # fmt: skip


def run(out: Path, settings: TrainAutoencoderConfig, stop_at: int | None = None) -> list[dict[str, Any]]:
    assert settings.temporal_decoder is not None
    torch.manual_seed(0)
    model = TrainedTemporalDecoder(settings.temporal_decoder, settings.temporal_decoder.base.build())
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


def weights(autoencoder: VideoAutoencoder) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in autoencoder.model.state_dict().items()}  # type: ignore[attr-defined]


def loaded(out: Path) -> VideoAutoencoder:
    return TemporalDecoderConfig(path=str(out / "weights"), device="cpu").build()


@pytest.mark.parametrize("trains", ["temporal", "decoder"])
@pytest.mark.parametrize("name", KINDS)
def test_nothing_but_what_is_chosen_is_trained(name: str, trains: str, tmp_path: Path) -> None:
    base_of(name, tmp_path / "base")
    settings = settings_for(tmp_path / "base", name, trains)
    assert settings.temporal_decoder is not None
    base = settings.temporal_decoder.base.build()
    before, model = weights(base), TrainedTemporalDecoder(settings.temporal_decoder, base)
    start = {key: value.clone() for key, value in model.state_dict().items()}
    with Spool(tmp_path, writes=True) as spool:
        AutoencoderRun(tmp_path, settings, model, Squares(), ALONE, spool).train()
    changed = {key for key, value in base.model.state_dict().items() if not torch.equal(value, before[key])}
    assert {key.split(".")[0] for key in changed} <= {"decoder", "post_quant_conv"}
    assert bool(changed) == (trains == "decoder")
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, start[key])}
    assert {f"layers.{number}.temporal.conv.weight" for number in range(len(model.layers))} <= moved


def test_flicker_falls_and_the_figures_before_are_kept(tmp_path: Path) -> None:
    base_of("images", tmp_path / "base", deviation=None)
    settings = settings_for(tmp_path / "base", "images", steps=24, loss={}, held_out={"every": 24})
    rows = run(tmp_path / "run", settings)
    held_out = {row["step"]: row["held_out"] for row in rows if "held_out" in row}
    assert list(held_out) == [0, 24]
    assert held_out[24]["flicker"] < held_out[0]["flicker"] and held_out[24]["psnr_db"] > held_out[0]["psnr_db"]
    assert settings.temporal_decoder is not None
    clip = Squares().read(Squares().held_out[0], 0, 9, 24)
    video = torch.from_numpy(clip).permute(3, 0, 1, 2)[None] / 127.5 - 1
    base, tuned = settings.temporal_decoder.base.build(), loaded(tmp_path / "run")
    decoded = [one.decode(one.encode(video)) for one in (base, tuned)]
    flickers = [float((out - video).diff(dim=2).abs().mean()) for out in decoded]
    assert flickers[1] < flickers[0]


def test_a_stopped_run_resumes_bitwise_and_measures_the_start_once(tmp_path: Path) -> None:
    base_of("images", tmp_path / "base")
    settings = settings_for(tmp_path / "base", "images", "decoder", steps=5)
    for stop in (1, 4):  # before the first checkpoint, and after it
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped", settings, stop_at=stop)
    assert list_checkpoints(tmp_path / "stopped" / "checkpoints")
    rows = {name: run(tmp_path / name, settings) for name in ("whole", "stopped")}
    files = [tmp_path / name / "weights" / "model.safetensors" for name in rows]
    assert files[0].read_bytes() == files[1].read_bytes()
    timeless = [[{k: v for k, v in row.items() if k != "seconds"} for row in of_run] for of_run in rows.values()]
    assert timeless[0] == timeless[1]


def test_it_trains_on_the_latents_that_are_stored(tmp_path: Path) -> None:
    base = base_of("stable_diffusion", tmp_path)
    settings = TrainTemporalDecoderConfig(base=DiffusersAutoencoderConfig(path=str(tmp_path), device="cpu"))
    model = TrainedTemporalDecoder(settings, base)
    video = torch.from_numpy(np.stack([Squares().read(clip, 0, 3, 24) for clip in Squares().train[:2]]))
    video = video.permute(0, 4, 1, 2, 3) / 127.5 - 1
    with torch.autocast("cpu", torch.bfloat16):
        _, coded = model(video, torch.Generator())
    stored = torch.stack([base.encode(one[None]) for one in video])
    torch.testing.assert_close(coded.latent, stored, rtol=1e-5, atol=1e-5)


def test_a_network_and_a_base_are_not_set_together(tmp_path: Path) -> None:
    given = settings_for(tmp_path, "images").model_dump()
    for other in ({"network": {"latent_channels": 4}}, {"init": "embedded"}):
        with pytest.raises(ValueError, match="the network is that of its base; leave network and init out"):
            TrainAutoencoderConfig.model_validate(given | other)
