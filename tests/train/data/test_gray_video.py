"""Wan image-to-video is trained on what its pipeline gives the transformer, and sampled from a picture likewise."""

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from curate.dataset.dataset import Dataset
from curate.media.decode import decode_clip
from curate.shards.tar import TarReader, read_member
from pipelines.config import load_config
from pipelines.drivers.encode import encode
from pipelines.drivers.train_import import import_model
from pipelines.generation.asked import Asked
from pipelines.generation.generator import Generator
from tests.support.diffusers_pipelines import write_pipeline
from tests.support.made_clips import write_made_clips
from train.autoencoder.config import autoencoder_of
from train.data.load import PackLoader
from train.data.mix import read_datasets
from train.data.plan import PlannedPack, PlannedSample
from train.loop import train
from train.model.base import Denoiser
from train.packing.batch import unpack
from train.packing.shapes import SHOWN
from train.run.folder import RunRecord, load_model
from train.sampling.given_files import GivenFiles
from train.sampling.read_given import read_given
from train.sampling.request import Request

HEIGHT, WIDTH, FRAMES = 32, 64, 9
STEPS = 4


@dataclass(frozen=True)
class Clip:
    clip_id: str
    split: str
    num_frames: int

    @property
    def caption(self) -> str:
        return "a big gray rabbit"

    def frames(self) -> np.ndarray:
        y, x, t = np.meshgrid(np.arange(HEIGHT), np.arange(WIDTH), np.arange(self.num_frames), indexing="ij")
        levels = 128 + 90 * np.sin(x / 9 + t / 2 + int(self.clip_id, 16)) * np.cos(y / 7 + t / 5)
        return np.stack([levels, np.roll(levels, 8, 1), 255 - levels], -1).transpose(2, 0, 1, 3).astype(np.uint8)


CLIPS = [Clip("0" * 31 + "1", "train", FRAMES), Clip("0" * 31 + "2", "train", 1), Clip("0" * 31 + "3", "val", FRAMES)]


@pytest.fixture(scope="module", params=["wan-2.2-i2v", "wan-2.1-i2v", "wan-2.1-flf2v"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A pipeline, its import, and clips encoded by the import's own settings."""
    root = tmp_path_factory.mktemp("i2v")
    pipeline = write_pipeline(request.param, root / "theirs")
    import_model(str(pipeline), root / "ours")
    url, settings = str(root / "dataset"), str(root / "ours/train.yaml")
    write_made_clips(url, CLIPS, fps=8)
    config = load_config(settings, ["execute.executor=local", "train.device=cpu", f"train.steps={STEPS}"])
    encode(url, config)
    return SimpleNamespace(url=url, config=config, settings=settings, pipeline=pipeline, root=root, name=request.param)


def opened(made: SimpleNamespace) -> Any:
    import diffusers

    return diffusers.DiffusionPipeline.from_pretrained(made.pipeline)


def ends(made: SimpleNamespace) -> list[np.ndarray]:
    """The frames of the training clip that its model is given, as they are stored."""
    dataset = Dataset(made.url)
    [row] = [row for row in dataset.read_index().to_pylist() if row["clip_id"] == CLIPS[0].clip_id]
    rgb = decode_clip(read_member(TarReader(dataset.layout.shards), row)).rgb
    return [rgb[0], rgb[-1]] if made.name.endswith("flf2v") else [rgb[0]]


@torch.no_grad()
def test_a_training_sample_has_what_the_pipeline_gives_its_transformer(made: SimpleNamespace):
    config, pipeline = made.config.train, opened(made)
    manifest = read_datasets(made.url, split="train", data=config.data, model=config.model)
    loader = PackLoader(manifest, config.objective.build(), config.data, model=config.model, seed=0)
    tokens = manifest.num_tokens.tolist()
    samples = tuple(PlannedSample(row=row, num_tokens=tokens[row], occurrence=0) for row in range(2))
    batch = loader.load(PlannedPack(samples=samples, epoch=0))
    image, *last = (
        pipeline.video_processor.preprocess(Image.fromarray(rgb), height=HEIGHT, width=WIDTH) for rgb in ends(made)
    )
    given = {"last_image": last[0]} if last else {}
    _, expected = pipeline.prepare_latents(image, 1, 4, HEIGHT, WIDTH, FRAMES, torch.float32, "cpu", **given)
    shown, of_image = unpack(batch.conditioning[SHOWN], batch, config.model.patch)
    torch.testing.assert_close(shown, expected[0], atol=2e-3, rtol=2e-3)  # it is stored in float16
    assert not of_image.any() and not batch.loss_mask.logical_not().any()
    states = None
    if config.model.pictures is not None:
        states = pipeline.encode_image([Image.fromarray(rgb) for rgb in ends(made)], "cpu")
        num_states = batch.pictures.segments.lengths[0]
        torch.testing.assert_close(batch.pictures.states[:num_states], states.flatten(0, 1), atol=5e-3, rtol=5e-3)
        assert batch.pictures.given.tolist() == [True, False]
    else:
        assert batch.pictures is None
    noisy = unpack(batch.tokens, batch, config.model.patch)[0]
    text = batch.text[: batch.text_segments.lengths[0]].float()
    padded = torch.cat([text, text.new_zeros(512 - len(text), text.shape[1])])[None]
    timestep = 1000 * batch.timesteps[:1]
    reference = pipeline.transformer(torch.cat([noisy[None], expected], 1), timestep, padded, states).sample[0]
    ours = Denoiser.from_pretrained(made.root / "ours").eval()
    found = unpack(ours(batch.tokens, batch.timesteps, batch), batch, config.model.patch)[0]
    torch.testing.assert_close(found, reference, atol=5e-3, rtol=5e-3)
    assert (found - ours_without(ours, batch, config)).abs().max() > 0.05  # what is shown counts


def ours_without(model: Denoiser, batch: Any, config: Any) -> torch.Tensor:
    bare = replace(batch, conditioning={}, pictures=None)
    return unpack(model(bare.tokens, bare.timesteps, bare), bare, config.model.patch)[0]


def test_a_picture_is_given_as_in_training(made: SimpleNamespace, tmp_path: Path):
    """Files are read to the latent and the states that are stored of their clip."""
    config = made.config.train
    manifest = read_datasets(made.url, split="train", data=config.data, model=config.model)
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for rgb, path in zip(ends(made), paths, strict=False):
        Image.fromarray(rgb).save(path)
    files = GivenFiles(start=paths[0], end=paths[1] if made.name.endswith("flf2v") else None)
    request = Request(prompt="", num_frames=FRAMES, width=WIDTH, height=HEIGHT)
    autoencoder = autoencoder_of(manifest.latents)
    given = read_given(files, request, config, RunRecord.of(manifest), autoencoder, 8.0)
    loader = PackLoader(manifest, config.objective.build(), config.data, model=config.model, seed=0)
    read = loader.builder.reader.read(manifest.row(0), gray=given.gray_frames)
    assert torch.equal(given.gray.half().float(), read.gray)
    assert (given.picture is None) == (read.picture is None) == (config.model.pictures is None)
    if read.picture is not None:
        assert torch.equal(given.picture.half().float(), read.picture)
    with pytest.raises(ValueError, match="trained on the tasks"):
        other = GivenFiles(start=paths[0], end=None if files.end else paths[0])
        read_given(other, request, config, RunRecord.of(manifest), autoencoder, 8.0)


def test_it_trains_resumes_bitwise_and_samples(made: SimpleNamespace, tmp_path: Path):
    if made.name == "wan-2.1-i2v":
        pytest.skip("as the one with two pictures")
    lora = ["train.finetune.kind=lora", "train.finetune.rank=2"] if made.name == "wan-2.2-i2v" else []
    fast = ["train.optimizer.lr=3e-3", "train.optimizer.warmup_steps=0", "train.evaluate.held_out.every=2"]
    config = load_config(
        made.settings,
        ["train.device=cpu", f"train.steps={STEPS}", "train.checkpoint.every=2", *fast, *lora],
    ).train

    def stop(row: Any) -> None:
        if row["step"] == 3:
            raise KeyboardInterrupt

    train(config, made.url, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(config, made.url, tmp_path / "killed", on_step=stop)
    train(config, made.url, tmp_path / "killed")
    whole, killed = (load_model(tmp_path / name, weights="model")[0].state_dict() for name in ("whole", "killed"))
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    start = tmp_path / "start.png"
    Image.fromarray(ends(made)[0]).save(start)
    given = GivenFiles(start=start, end=start if made.name.endswith("flf2v") else None)
    sampling = load_config(overrides=["sample.num_steps=2", "sample.device=cpu"]).sample
    generator = Generator(str(tmp_path / "whole"), sampling)
    asked = Asked(prompt="a big gray rabbit", seed=0, width=WIDTH, height=HEIGHT, num_frames=FRAMES, given=given)
    assert not generator.check(asked, sampling)
    for _ in generator.make([asked], sampling, lambda _: tmp_path / "x.mp4"):
        pass
    assert (tmp_path / "x.mp4").stat().st_size
    assert generator.takes == ({"start", "end"} if given.end else {"start"})


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["train.data.tasks=[{kind: unconditional}]"], r"shown_channels is 8, and the tasks show no gray video"),
        (["train.model.shown_channels=7"], r"shown_channels is 7.*expected a model of shown_channels 8"),
        (["train.data.tasks=[{kind: gray_video, frames: both_ends}]"], r"encode\.gray=\[first, both_ends\]"),
        (["train.model.picture={dim: 9}"], r"reads states of 9 features, and latents .* have"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_step(made: SimpleNamespace, overrides: list[str], told: str):
    if made.name.endswith("flf2v"):
        pytest.skip("of the other two")
    config = load_config(made.settings, overrides).train
    with pytest.raises(ValueError, match=told):
        read_datasets(made.url, split="train", data=config.data, model=config.model)
