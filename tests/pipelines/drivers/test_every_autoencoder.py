"""`reelpack encode` with every kind of autoencoder: what the loader reads is what the autoencoder gave."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from curate.dataset.dataset import Dataset
from curate.media.decode import decode_clip
from curate.shards.tar import TarReader, read_member
from pipelines.config import Config, load_config
from pipelines.drivers.curate import curate
from pipelines.drivers.encode import encode
from tests.support.curated import SETTINGS, caption
from tests.support.videos import moving, write_video
from tests.train.autoencoder.models import KINDS, SHIPPED, save_model
from train.autoencoder.base import usable_frames
from train.autoencoder.diffusers_vae import DiffusersAutoencoder
from train.autoencoder.own import ReelpackAutoencoder
from train.autoencoder.pixels import to_video
from train.data.manifest import read_manifest
from train.data.read import ClipReader

PATCH = (1, 1, 1)
SIZE = (64, 96)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A clip of 18 frames and an image."""
    folder = tmp_path_factory.mktemp("every")
    write_video(folder / "films/clip.mp4", moving(1, 1.5))
    Image.fromarray(moving(2, 0.1)[0]).save(folder / "films/image.png")
    url = str(folder / "dataset")
    curate([str(folder / "films")], url, load_config(overrides=SETTINGS))
    caption(Dataset(url))
    return SimpleNamespace(url=url)


def channels_last(latent: torch.Tensor) -> torch.Tensor:
    """(C, T, H, W), the same values in another order of memory."""
    return latent.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2)


@pytest.mark.parametrize("layout", ["as_it_comes", "channels_last"])
@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_read_is_what_the_autoencoder_gave(
    made: SimpleNamespace, name: str, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(Path(made.url, "latents"), ignore_errors=True)  # what is encoded already is not encoded again
    if layout == "channels_last":
        for cls in (DiffusersAutoencoder, ReelpackAutoencoder):
            encode_as_ever = cls.encode
            monkeypatch.setattr(cls, "encode", lambda self, video, f=encode_as_ever: channels_last(f(self, video)))
    config = load_config(overrides=["execute.executor=local", "encode.max_area_px=6144", "encode.multiple_px=32"])
    settings = config.model_dump(mode="json")
    settings["encode"]["autoencoder"] = save_model(name, tmp_path).model_dump(mode="json")
    config = Config.model_validate(settings)
    latents = encode(made.url, config).latents
    autoencoder = config.encode.autoencoder.build()
    manifests = [
        read_manifest(made.url, split=split, patch=PATCH, latents=latents, allow_empty=True)
        for split in ("train", "val")
    ]
    shards = TarReader(f"{made.url}/shards")
    index = {row["clip_id"]: row for row in Dataset(made.url).read_index().to_pylist()}
    kinds = set()
    for manifest, row in ((of, of.row(number)) for of in manifests for number in range(len(of))):
        place = index[row["clip_id"]]
        rgb = decode_clip(read_member(shards, place), size=SIZE).rgb
        rgb = rgb[: usable_frames(len(rgb), autoencoder.temporal_stride)]
        expected = autoencoder.encode(to_video(rgb)).half().float()
        assert expected.std() > 0 and torch.equal(ClipReader(manifest, PATCH).latent(row), expected)
        kinds.add((row["kind"], expected.shape[1]))
    assert kinds == {("video", 1 + 17 // KINDS[name].temporal_stride), ("image", 1)}
