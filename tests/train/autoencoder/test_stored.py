"""What is stored of a latent."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load

from curate.storage.tensors import arrays_to_bytes
from pipelines.config import load_config
from tests.train.autoencoder.models import save_model, save_own
from train.autoencoder.bottlenecks.config import FSQConfig, VQConfig
from train.autoencoder.config import DiffusersAutoencoderConfig, EncodeConfig, ReelpackConfig
from train.autoencoder.encode import EncodeStage
from train.autoencoder.network import CausalVideoAutoencoder
from train.autoencoder.stored import arrays, codebook_bytes, drawn, id_type, unfit
from train.autoencoder.weights_folder import save
from train.data.codebook import latent_of

OWN = ReelpackConfig(device="cpu")
SHAPE = (4, 3, 8, 8)


def moments(seed: int = 0) -> torch.Tensor:
    """(2 C, T, H, W)."""
    mean, logvar = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(seed))
    return torch.cat([mean, logvar - 2])


def stored(posterior: str, *key: object, seed: int = 0) -> dict[str, np.ndarray]:
    return arrays(moments(), EncodeConfig(posterior=posterior, posterior_seed=seed), None, *key)


def test_moments_are_stored_as_they_are_and_drawn_from_in_training() -> None:
    mean, logvar = moments().chunk(2)
    tensors = {name: torch.from_numpy(array) for name, array in stored("mean_logvar", "clip").items()}
    assert {name: tensor.dtype for name, tensor in tensors.items()} == dict.fromkeys(
        ("latent", "logvar"), torch.float16
    )
    assert torch.equal(tensors["latent"], mean.half()) and torch.equal(tensors["logvar"], logvar.half())
    assert torch.equal(drawn(tensors, None), mean.half().float())
    draws = torch.stack([drawn(tensors, torch.Generator().manual_seed(i)) for i in range(600)])
    torch.testing.assert_close(draws.mean(0), mean, atol=0.3, rtol=0)
    torch.testing.assert_close(draws.std(0), (0.5 * logvar).exp(), rtol=0.2, atol=0.01)


def test_a_stored_draw_is_named_by_seed_and_clip() -> None:
    draw = stored("sample", "clip")
    assert draw.keys() == {"latent"} and draw["latent"].dtype == np.float16
    assert np.array_equal(draw["latent"], stored("sample", "clip")["latent"])
    for other in (stored("sample", "other"), stored("sample", "clip", seed=1), stored("sample", "clip", 129)):
        assert not np.array_equal(draw["latent"], other["latent"])
    mean, logvar = moments().chunk(2)
    noise = (torch.from_numpy(draw["latent"]) - mean) / (0.5 * logvar).exp()
    assert abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.1


def test_own_moments_are_in_the_space_of_the_latents(tiny_model: CausalVideoAutoencoder, tmp_path: Path) -> None:
    save(tiny_model, tmp_path)
    autoencoder = ReelpackConfig(path=str(tmp_path), device="cpu").build()
    video = torch.rand(1, 3, 9, 16, 24) * 2 - 1
    parts = video.split([5, 4], dim=2)
    mean, logvar = autoencoder.encode_parts(parts, moments=True)[0].chunk(2)
    torch.testing.assert_close(mean, autoencoder.encode(video))
    std = torch.tensor(tiny_model.config.latent_std).view(-1, 1, 1, 1)
    raw = autoencoder._model.encode(video).chunk(2, dim=1)[1][0].clamp(-20, 4)
    torch.testing.assert_close((0.5 * logvar).exp() * std, (0.5 * raw).exp())


@pytest.mark.parametrize("name", ["deep_compression", "cosmos"])
def test_what_has_no_posterior_is_refused(name: str, tmp_path: Path) -> None:
    for posterior in ("sample", "mean_logvar"):
        config = EncodeConfig(autoencoder=save_model(name, tmp_path), posterior=posterior, multiple_px=32)
        with pytest.raises(ValueError, match=rf"encode\.posterior={posterior}: .* gives no Gaussian.*=mean"):
            EncodeStage(config, "shards").setup()


BOTTLENECKS = {
    "vq": (VQConfig(codebook_size=300), np.uint16),
    "small vq": (VQConfig(codebook_size=256), np.uint8),
    "fsq": (FSQConfig(levels=(8, 5, 5, 5)), np.uint16),
}


@pytest.mark.parametrize("kind", BOTTLENECKS)
def test_ids_lead_back_to_the_values_exactly(kind: str, tmp_path: Path) -> None:
    bottleneck, dtype = BOTTLENECKS[kind]
    autoencoder = save_own(bottleneck, tmp_path).build()
    codebook = autoencoder.codebook
    assert codebook is not None
    video = torch.rand(1, 3, 9, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latent = autoencoder.encode(video)
    values = torch.from_numpy(arrays(latent, EncodeConfig(), codebook)["latent"])
    ids = arrays(latent, EncodeConfig(store="ids"), codebook)["ids"]
    assert ids.dtype == dtype and ids.shape == latent.shape[1:] and len(np.unique(ids)) > 8
    tables = [load(codebook_bytes(codebook))[str(number)] for number in range(len(codebook.tables()))]
    read = load(arrays_to_bytes({"ids": ids}))["ids"]
    assert torch.equal(latent_of(read, tables), values) and len(values.unique()) > 8
    every = torch.arange(codebook.num_codes).view(-1, 1, 1)
    assert torch.equal(latent_of(every, tables), codebook.vectors(every).half())
    assert torch.equal(codebook.ids(codebook.vectors(every)), every)
    assert torch.equal(autoencoder.decode(latent), autoencoder.decode(codebook.vectors(torch.from_numpy(ids).long())))


def test_ids_of_continuous_latents_and_moments_of_codes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"encode\.store=ids: latents of autoencoder reelpack_kl are continuous"):
        EncodeStage(EncodeConfig(autoencoder=OWN, store="ids"), "shards").setup()
    config = EncodeConfig(autoencoder=save_own(VQConfig(codebook_size=16), tmp_path), posterior="sample")
    with pytest.raises(ValueError, match=r"reelpack_vq gives no Gaussian"):
        EncodeStage(config, "shards").setup()
    with pytest.raises(ValueError, match=r"store=ids and posterior=sample"):
        EncodeConfig(store="ids", posterior="sample")


@pytest.mark.parametrize(("num_codes", "dtype"), [(2, "uint8"), (256, "uint8"), (257, "uint16"), (65536, "uint16"),
                                                  (65537, "int32"), (2**31, "int32")])  # fmt: skip
def test_ids_take_the_smallest_type(num_codes: int, dtype: str) -> None:
    assert id_type(num_codes) == np.dtype(dtype) and np.iinfo(dtype).max >= num_codes - 1


def test_settings_of_storage_are_read_as_before() -> None:
    assert EncodeConfig.model_validate({"store": True}).store == "values"
    assert EncodeConfig.model_validate({"store": False}).store is False
    assert load_config(overrides=["encode.store=true"]).encode.store == "values"
    assert load_config(overrides=["encode.store=false"]).encode.store is False
    with pytest.raises(ValueError, match="store"):
        EncodeConfig.model_validate({"store": "codes"})


def test_posteriors_have_fingerprints_of_their_own() -> None:
    records = {
        (posterior, seed): EncodeStage(
            EncodeConfig(autoencoder=OWN, posterior=posterior, posterior_seed=seed), "shards"
        ).fingerprint_record()
        for posterior in ("mean", "sample", "mean_logvar")
        for seed in (0, 1)
    }
    names = {key: record["fingerprint"] for key, record in records.items()}
    assert names["mean", 0] == names["mean", 1] and names["mean_logvar", 0] == names["mean_logvar", 1]
    assert len(set(names.values())) == 4
    assert records["sample", 1]["config"]["posterior"] == "sample"


def test_what_cannot_be_stored_is_told_by_count_and_channel() -> None:
    latent = torch.zeros(SHAPE)
    latent[1, 0, 0, :2] = float("nan")
    latent[3, 0, 0, 0], latent[3, 0, 0, 1] = float("inf"), -1e6
    assert unfit(latent) == (
        "2 NaN, 1 infinite, 1 beyond ±65504, the range of float16 of 768 values, in channels 1, 3 of 4"
    )
    assert unfit(torch.full(SHAPE, 65504.0)) is None
    with pytest.raises(ValueError, match=r"gave 768 NaN .* channels 0, 1, 2, 3 of 4; look at the clip"):
        arrays(torch.full(SHAPE, float("nan")), EncodeConfig(), None)


def test_a_half_precision_autoencoder_that_overflows_is_told_to_compute_in_float32(tmp_path: Path) -> None:
    config = save_model("stable_diffusion", tmp_path)
    assert isinstance(config, DiffusersAutoencoderConfig)
    config = config.model_copy(update={"dtype": "float16"})
    with pytest.raises(ValueError, match=r"computes in float16: set encode\.autoencoder\.dtype=float32"):
        arrays(torch.full(SHAPE, float("inf")), EncodeConfig(autoencoder=config), None)
