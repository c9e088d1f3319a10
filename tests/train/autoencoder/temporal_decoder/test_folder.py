"""A temporal decoder as `encode.autoencoder`: the base's latents, decoded with the layers of its folder."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.train.autoencoder.models import save_model, save_temporal_decoder
from tests.train.autoencoder.temporal_decoder.test_network import disturb, latent_of
from train.autoencoder.config import DiffusersAutoencoderConfig, EncodeConfig, ReelpackConfig, autoencoder_of
from train.autoencoder.encode import EncodeStage
from train.autoencoder.temporal_decoder.config import TemporalDecoderConfig
from train.autoencoder.temporal_decoder.folder import save
from train.autoencoder.temporal_decoder.network import TemporalDecoder
from train.autoencoder.temporal_decoder.training_config import TrainTemporalDecoderConfig


@pytest.fixture
def base(tmp_path: Path) -> DiffusersAutoencoderConfig:
    config = save_model("stable_diffusion", tmp_path / "pipeline" / "vae")
    assert isinstance(config, DiffusersAutoencoderConfig)
    return config.model_copy(update={"path": str(tmp_path / "pipeline"), "subfolder": "vae"})


@pytest.mark.parametrize("trains", ["temporal", "decoder"])
@pytest.mark.parametrize("copy_base", [True, False])
def test_what_is_loaded_decodes_as_what_was_saved(
    trains: str, copy_base: bool, base: DiffusersAutoencoderConfig, tmp_path: Path
) -> None:
    decoder = TemporalDecoder(base.build(), trains)
    disturb(decoder)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter *= 1.1
        expected = decoder.decode(latent_of(decoder.base)[None]).clamp(-1, 1)
    settings = TrainTemporalDecoderConfig(base=base, trains=trains, copy_base=copy_base)
    save(decoder, settings, tmp_path / "weights")
    if copy_base:
        shutil.rmtree(tmp_path / "pipeline")
        (tmp_path / "weights").rename(tmp_path / "moved")
    folder = tmp_path / ("moved" if copy_base else "weights")
    loaded = TemporalDecoderConfig(path=str(folder), device="cpu").build()
    torch.testing.assert_close(loaded.decode(latent_of(loaded)), expected, rtol=0, atol=1e-5)
    assert (folder / "base").exists() == copy_base
    assert (folder / "model.safetensors").stat().st_size < 200_000 or trains == "decoder"


def test_its_latents_and_their_fingerprint_are_those_of_the_base(
    base: DiffusersAutoencoderConfig, tmp_path: Path
) -> None:
    config = save_temporal_decoder(base, tmp_path / "weights")
    video = torch.rand(1, 3, 3, 32, 32) * 2 - 1
    assert torch.equal(config.build().encode(video), base.build().encode(video))
    records = []
    for one in (base, config):
        stage = EncodeStage(EncodeConfig(autoencoder=one), str(tmp_path))
        stage.setup()
        records.append(stage.fingerprint_record())
    assert records[0]["fingerprint"] == records[1]["fingerprint"]
    latent = base.build().encode(video)
    decoded = [autoencoder_of(record).decode(latent) for record in records]
    assert torch.equal(decoded[0], base.build().decode(latent)) and not torch.allclose(*decoded, atol=1e-3)


def test_memory_is_bounded_in_space_by_tiles(base: DiffusersAutoencoderConfig, tmp_path: Path) -> None:
    config = save_temporal_decoder(base, tmp_path / "weights")
    latent = torch.randn(4, 3, 48, 80)
    whole = config.build().decode(latent)
    tiled = config.model_copy(update={"tile_px": 64}).build().decode(latent)
    assert tiled.shape == whole.shape and not torch.equal(tiled, whole)
    assert (tiled - whole).abs().mean() < 0.02


def _another_base(folder: Path, base: DiffusersAutoencoderConfig) -> None:
    torch.manual_seed(1)
    vae = Path(base.path, "vae", "config.json")
    vae.write_text(json.dumps(json.loads(vae.read_text()) | {"scaling_factor": 0.5}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_another_base, "the decoder was trained on [0-9a-f]+; put them back, or give its place by"),
        (lambda folder, base: shutil.rmtree(base.path), "its base cannot be loaded .*no folder"),
        (lambda folder, base: (folder / "model.safetensors").unlink(), "no model.safetensors in .*temporal_decoder"),
        (lambda folder, base: (folder / "config.json").write_text("{}"), "no temporal decoder, or a damaged one"),
        (
            lambda folder, base: (folder / "config.json").write_text(
                (folder / "config.json").read_text().replace('"temporal"', '"decoder"')
            ),
            "model.safetensors is not of its config.json .it lacks base_decoder",
        ),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(
    spoil: Callable[[Path, DiffusersAutoencoderConfig], None],
    message: str,
    base: DiffusersAutoencoderConfig,
    tmp_path: Path,
) -> None:
    config = save_temporal_decoder(base, tmp_path / "weights")
    spoil(tmp_path / "weights", base)
    with pytest.raises(ValueError, match=message):
        config.build()


def test_a_base_that_was_moved_is_named(base: DiffusersAutoencoderConfig, tmp_path: Path) -> None:
    config = save_temporal_decoder(base, tmp_path / "weights")
    Path(base.path).rename(tmp_path / "elsewhere")
    moved = config.model_copy(update={"base": str(tmp_path / "elsewhere")})
    assert moved.build().channels == 4


def test_the_embedded_autoencoder_is_a_base(tmp_path: Path) -> None:
    config = save_temporal_decoder(ReelpackConfig(device="cpu"), tmp_path)
    loaded, base = config.build(), ReelpackConfig(device="cpu").build()
    assert loaded.fingerprint == base.fingerprint and loaded.part_frames == base.part_frames
    latent = torch.randn(16, 3, 2, 2)
    assert loaded.decode(latent).shape == base.decode(latent).shape == (1, 3, 9, 16, 16)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "float16"}, "got float16, in which gradients vanish"),
        ({"dtype": "bfloat16"}, "trains=decoder: got base.dtype bfloat16"),
    ],
)
def test_precisions_that_do_not_train_are_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainTemporalDecoderConfig(base={"kind": "diffusers", "path": "x", **settings}, trains="decoder")
