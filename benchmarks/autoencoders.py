"""KL, VQ and FSQ on one dataset: trained for equal time, and a small DiT trained on the latents of each.

    python -m benchmarks.autoencoders [--dataset DATASET] [--seconds 120] [--dit-steps 300] [--out OUT] [--set …]
    python -m benchmarks.autoencoders --only equalities

Without `--dataset`, the demo's inputs are curated as `reelpack demo` does. Time is CPU time: how many steps fit into
`--seconds` is measured first. Figures are of the split val, which nothing is trained on.

A flow's loss cannot be compared between latent spaces: how far it falls depends on what the autoencoder left to
predict. So it is printed with two figures that can be read side by side:

    share       the DiT's held-out loss divided by that of the best model that sees each value alone (channels' means
                and deviations) under the same noise. 1: the DiT has learned no structure.
    from noise  half of each held-out latent is noise (t = 0.5); the DiT's one estimate of the clean latent is decoded;
                PSNR against the source. Pixels compare between spaces. Many channels still tell more through noise.

`equalities`: is an image alone the first frame, are chunks and tiles the whole; of the embedded autoencoder, and of a
class of diffusers with random weights.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.autoencoder_equalities import show_equalities
from benchmarks.machine import described
from curate.dataset.dataset import Dataset
from curate.media.decode import clip_frames, clip_times
from curate.shards.tar import TarReader, read_member
from pipelines.config import Config, load_config
from pipelines.demo.inputs import make_demo_inputs
from pipelines.drivers.curate import curate
from pipelines.drivers.encode import encode
from pipelines.drivers.train import train_here
from pipelines.drivers.train_autoencoder import train_autoencoder
from train.autoencoder.base import VideoAutoencoder
from train.autoencoder.check import Check, CheckedClip, check, fitted
from train.autoencoder.config import EncodeConfig, autoencoder_of
from train.autoencoder.evaluate import psnr
from train.autoencoder.pixels import decode_latent, to_video
from train.autoencoder.sizes import target_size
from train.data.manifest import Manifest, read_manifest
from train.data.read import ClipReader
from train.data.reference import noised, reference_sample
from train.distributed.ranks import RankGrid
from train.evaluate.base import EvaluationContext
from train.evaluate.held_out import HeldOutLoss
from train.model.dit_config import DiTConfig
from train.packing.batch import PackedBatch, Sample, pack, unpack
from train.packing.shapes import Patch
from train.run.config import TrainConfig
from train.run.folder import load_model
from train.sampling.request import Request
from train.sampling.sample import sample

KINDS = ("kl", "vq", "fsq")
PROBES = (2, 2, 32)
"""Steps of short runs: the first loads libraries, and the difference of the others is what a step takes."""
HALF = 0.5
NUM_SHOWN = 3
SETTINGS = (
    "execute.executor=local",
    "train_autoencoder.held_out.every=0",
    "train.evaluate.held_out.every=0",
    "train.evaluate.captions.every=0",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What is known of an autoencoder and of the DiT on its latents.

    Attributes:
        steps, cpu_s: Of the autoencoder's training.
        found: Figures of held-out clips.
        same_by_ids: Clips whose ids led back to the stored latents, bitwise, and all clips; None without ids.
        loss, share, from_noise_db: Of the DiT.
        pictures: (H, W, 3) uint8 each.
    """

    steps: int
    cpu_s: float
    found: Check
    same_by_ids: tuple[int, int] | None
    loss: float
    share: float
    from_noise_db: float
    pictures: Sequence[np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["table", "equalities"], help="none: both")
    parser.add_argument("--dataset", help="curated, with clips of the split val; none: the demo's")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seconds", type=float, default=120, help="of CPU, of each autoencoder's training")
    parser.add_argument("--dit-steps", type=int, default=300)
    parser.add_argument("--out", type=Path, help="a folder that is kept; none: a temporary one")
    parser.add_argument("--set", action="append", default=[], help="section.key=value, as of the commands")
    arguments = parser.parse_args()
    print(described())
    with tempfile.TemporaryDirectory(prefix="autoencoders-") as temporary:
        out = arguments.out or Path(temporary)
        if arguments.only != "equalities":
            overrides = [*SETTINGS, f"train.steps={arguments.dit_steps}", *arguments.set]
            dataset = arguments.dataset or demo_dataset(out, overrides)
            kinds = arguments.kinds.split(",")
            results = {kind: tried(kind, dataset, out / kind, overrides, arguments.seconds) for kind in kinds}
            show(results)
            sheet = out / f"{'_'.join(kinds)}.png"
            side_by_side([result.pictures for result in results.values()]).save(sheet)
            print(f"{sheet}: a row each; of held-out clips source, decoded, decoded from noise; then samples")
        if arguments.only != "table":
            show_equalities()


def demo_dataset(out: Path, overrides: Sequence[str]) -> str:
    """The demo's inputs, curated as the demo does; without captions."""
    inputs, dataset = out / "inputs", str(out / "dataset")
    make_demo_inputs(inputs)
    curate([str(inputs)], dataset, load_config("demo", overrides))
    return dataset


def tried(kind: str, dataset: str, out: Path, overrides: Sequence[str], seconds: float) -> Result:
    """Train an autoencoder, encode the dataset by it, train a DiT on that, measure both."""
    steps, cpu_s = train(kind, dataset, out, overrides, seconds)
    config = load_config("demo", [*overrides, f"encode.autoencoder.path={out / 'autoencoder' / 'weights'}"])
    latents = encode(dataset, config).latents
    patch = config.train.model.patch
    train_here(dataset, str(out / "dit"), load_config("demo", [*overrides, f"train.data.latents={latents}"]))
    seen, val = (read_manifest(dataset, split=split, patch=patch, latents=latents) for split in ("train", "val"))
    autoencoder, clips = autoencoder_of(val.latents), held_out(dataset, config.encode)
    model, trained, _ = load_model(out / "dit")
    loss, alone = (held_out_loss(one, val, trained) for one in (model, EachValueAlone(seen, patch)))
    found = check(autoencoder, clips, multiple_px=config.encode.multiple_px)
    triples = list(decoded(model, autoencoder, clips, trained, config.encode, val.text_dim))
    return Result(
        steps=steps,
        cpu_s=cpu_s,
        found=found,
        same_by_ids=same_by_ids(autoencoder, [seen, val], patch),
        loss=loss,
        share=loss / alone,
        from_noise_db=float(np.mean([psnr(source, from_noise) for source, _, from_noise in triples])),
        pictures=[*middles([one for triple in triples[:NUM_SHOWN] for one in triple]), *samples(out / "dit", config)],
    )


def train(kind: str, dataset: str, out: Path, overrides: Sequence[str], seconds: float) -> tuple[int, float]:
    """As many steps as fit; their number, and what they took of the CPU, with the clips' decoding."""

    def cost_s(name: str, steps: int) -> float:
        key = "train_autoencoder"
        given = [f"{key}.network.bottleneck={{kind: {kind}}}", f"{key}.steps={steps}", f"{key}.num_measured=10"]
        start = time.process_time()
        train_autoencoder(dataset, out / name, load_config("demo", [*given, *overrides]))
        return time.process_time() - start

    _, few_s, more_s = (cost_s(f"probe_{number}", steps) for number, steps in enumerate(PROBES))
    steps = max(1, round(seconds * (PROBES[2] - PROBES[1]) / (more_s - few_s)))
    return steps, cost_s("autoencoder", steps)


def held_out(dataset: str, config: EncodeConfig) -> list[CheckedClip]:
    """The beginnings of the clips of the split val, in the size and at the rate that `encode` takes."""

    def size(height: int, width: int) -> tuple[int, int]:
        return target_size(height, width, max_area_px=config.max_area_px, multiple_px=config.multiple_px)

    data = Dataset(dataset)
    reader, clips = TarReader(data.layout.shards), []
    for row in data.read_index().to_pylist():
        if row["split"] == "val":
            member = read_member(reader, row)
            times = clip_times(member)
            indices = times.at(None if len(times.pts) == 1 else config.fps)[: config.max_frames]
            rgb = np.stack(list(clip_frames(member, times, indices, size)))
            clips.append(CheckedClip(name=row["clip_id"], rgb=rgb))
    return clips


class EachValueAlone(nn.Module):
    """The best velocity where values are normal and independent: it knows their means and deviations over a set."""

    def __init__(self, seen: Manifest, patch: Patch) -> None:
        super().__init__()
        reader = ClipReader(seen, patch)
        clean = [reference_sample(reader, row, DiTConfig(patch=patch)) for row in range(len(seen))]
        self.var, self.mean = torch.var_mean(pack(clean, patch, seen.text_dim).tokens, dim=0)

    def forward(self, x: Tensor, timesteps: Tensor, batch: PackedBatch) -> Tensor:
        t = batch.condition_timesteps[batch.condition_ids][:, None]  # (L, 1)
        gain = (1 - t) * self.var / ((1 - t).square() * self.var + t.square())
        return (x - self.mean - gain * (x - (1 - t) * self.mean)) / t


def held_out_loss(model: nn.Module, val: Manifest, config: TrainConfig) -> float:
    ranks = RankGrid(rank=0, world_size=1, device=torch.device("cpu"))
    context = EvaluationContext(
        train=val,
        val=val,
        objective=config.objective.build(),
        plan=config.data.plan,
        model=config.model,
        ranks=ranks,
        out=Path(),
    )
    return float(HeldOutLoss(config.evaluate.held_out, context).losses(model)["loss"])


@torch.no_grad()
def decoded(
    model: nn.Module,
    autoencoder: VideoAutoencoder,
    clips: Sequence[CheckedClip],
    config: TrainConfig,
    encoding: EncodeConfig,
    text_dim: int,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of each clip: source, decoded, and decoded from the model's estimate at half noise; (T, H, W, 3) uint8 each."""
    patch = config.model.patch
    for clip in clips:
        rgb = fitted(clip.rgb, autoencoder, encoding.multiple_px)
        latent = autoencoder.encode(to_video(rgb))
        fps = encoding.fps or 0.0 if len(rgb) > 1 else 0.0
        stride = autoencoder.temporal_stride
        clean = Sample(
            clip_id=clip.name, latent=latent, noise=latent, timestep=0.0, fps=fps, temporal_stride=stride, text=None
        )
        noisy = noised(clean, HALF, "from noise", clip.name)
        batch = config.model.prepare(pack([noisy], patch, text_dim, config.model.conditions))
        x_t = (1 - HALF) * batch.tokens + HALF * batch.noise
        x_0 = x_t - HALF * model(x_t, batch.timesteps, batch)
        yield rgb, decode_latent(autoencoder, latent), decode_latent(autoencoder, unpack(x_0, batch, patch)[0])


def same_by_ids(autoencoder: VideoAutoencoder, parts: Sequence[Manifest], patch: Patch) -> tuple[int, int] | None:
    """Stored latents to ids and back: how many are the same in every bit, of how many."""
    codebook = autoencoder.codebook
    if codebook is None:
        return None
    readers = [ClipReader(part, patch) for part in parts]
    latents = [
        reader.latent(part.row(i)) for part, reader in zip(parts, readers, strict=True) for i in range(len(part))
    ]
    same = [torch.equal(codebook.vectors(codebook.ids(latent)).half(), latent.half()) for latent in latents]
    return sum(same), len(same)


def samples(run: Path, config: Config) -> list[np.ndarray]:
    """A frame of each."""
    requests = [Request(prompt="", width=128, height=80, num_frames=17)] * NUM_SHOWN
    autoencoder = autoencoder_of(load_model(run)[2].latents)
    return middles([decode_latent(autoencoder, one.latent) for one in sample(run, requests, config.sample)])


def middles(videos: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [video[len(video) // 2] for video in videos]


def side_by_side(rows: Sequence[Sequence[np.ndarray]], scale: int = 2) -> Image.Image:
    """Pictures of any size as a sheet."""
    height, width = (max(picture.shape[side] for row in rows for picture in row) for side in (0, 1))
    padded = [
        [np.pad(one, ((0, height - len(one)), (0, width - one.shape[1]), (0, 0))) for one in row] for row in rows
    ]
    sheet = Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in padded]))
    return sheet.resize((sheet.width * scale, sheet.height * scale), Image.Resampling.NEAREST)


def show(results: Mapping[str, Result]) -> None:
    """The table, in Markdown."""
    print(
        "| bottleneck | steps in CPU s | PSNR dB | SSIM | flicker | codes used | perplexity | bits per px "
        "| same by ids | DiT's loss | share | from noise dB |"
    )
    print("| --- " * 12 + "|")
    for kind, one in results.items():
        found, mean = one.found, one.found.mean
        codes = ["", ""] if found.code_usage is None else [f"{found.code_usage:.1%}", f"{found.perplexity:.0f}"]
        ids = "" if one.same_by_ids is None else "{} of {}".format(*one.same_by_ids)
        cells = [kind, f"{one.steps} in {one.cpu_s:.0f}", f"{mean('psnr_db'):.2f}", f"{mean('ssim'):.3f}"]
        cells += [f"{mean('flicker') or 0:.2f}", *codes, f"{found.bits_per_pixel:.3f}", ids]
        cells += [f"{one.loss:.3f}", f"{one.share:.3f}", f"{one.from_noise_db:.2f}"]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
