"""Two clips and two images by heart: the whole road on four samples, to less than 5 % of the starting loss.

    python -m benchmarks.overfit [OUT] [--steps 1500]

Two shots and two frames of the demo's film go through `curate`, `caption`, `encode`, `train` and `sample`, all with
the embedded models. Four samples that their captions and shapes tell apart leave a model nothing to guess: its loss
goes to zero, and sampling with a caption gives the sample back. Printed are the loss with fixed noise before and after
training, and for each sample the PSNR of what was sampled: against its own target as the autoencoder decodes it, and,
for comparison, against the other target of the same kind. A picture of targets and samples lies in OUT. A stopped run
goes on.

With `--set train.data.caption_dropout=0.5 --set 'train.data.tasks=[{kind: unconditional, weight: 4}, {kind:
first_frames, weight: 6, max_frames: 1}]'` the clips are also sampled from their first latent frame, without a caption.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from benchmarks.machine import described
from curate.device import pick_device
from curate.media.encode import encode_mp4
from curate.media.frames import iter_frames
from pipelines.config import Config, load_config
from pipelines.demo.inputs import FPS, MEDIA
from pipelines.drivers.caption import caption
from pipelines.drivers.curate import curate
from pipelines.drivers.encode import encode
from pipelines.drivers.train import train_here
from train.autoencoder.config import autoencoder_of
from train.autoencoder.pixels import decode_latent
from train.data.manifest import Manifest, read_manifest
from train.data.read import ClipReader
from train.distributed.ranks import RankGrid
from train.evaluate.base import EvaluationContext
from train.evaluate.held_out import HeldOutLoss
from train.run.folder import build_model, load_model
from train.sampling.given import Given
from train.sampling.request import Request
from train.sampling.sample import sample

PROMISED_SHARE = 0.05
CLIPS = {"clip_a.mp4": (150, 206), "clip_b.mp4": (560, 616)}
"""Frames of the film, each within a shot."""

IMAGES = {"image_a.png": 60, "image_b.png": 925}
SETTINGS: Mapping[str, Any] = {
    "score.scorers": "null",
    "dedup.perceptual.enabled": False,
    "select.split.val_fraction": 0,
    "execute.executor": "local",
    "encode.fps": 12,
    "encode.max_area_px": 128 * 80,
    "encode.max_frames": 17,
    "train.model": "{width: 192, depth: 6, num_heads: 6}",
    "train.data.caption_dropout": 0,
    "train.data.plan.token_budget": 512,
    "train.objective": "{timesteps: uniform, reduction: token}",
    "train.optimizer": "{lr: 0.002, warmup_steps: 20, schedule: cosine}",
    "train.ema.decay": 0.99,
    "train.evaluate.captions.every": "0",
    "train.checkpoint.every": 250,
    "sample": "{guidance: 1, sampler: heun, num_steps: 40}",
}


@dataclass(frozen=True, kw_only=True)
class Reproduced:
    """A sample beside its target, both decoded: (T, H, W, 3) uint8."""

    name: str
    prompt: str
    target: np.ndarray
    sampled: np.ndarray
    latent_share: float  # mean squared error over the variance of the target, of latents


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", help="a folder that is kept; none: a temporary one")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--set", action="append", default=[], help="section.key=value, as of the commands")
    arguments = parser.parse_args()
    print(described())
    with tempfile.TemporaryDirectory(prefix="overfit-") as temporary:
        given = [f"{name}={value}" for name, value in SETTINGS.items()]
        config = load_config(None, [*given, f"train.steps={arguments.steps}", *arguments.set])
        raise SystemExit(0 if overfit(arguments.out or Path(temporary), config) else 1)


def overfit(out: Path, config: Config) -> bool:
    """All of it; True if the promises are kept."""
    dataset, run = str(out / "dataset"), out / "run"
    make_inputs(out / "inputs")
    curate([str(out / "inputs")], dataset, config)
    caption(dataset, config)
    encode(dataset, config)
    manifest = read_manifest(dataset, split="train", patch=config.train.model.patch)
    kinds = sorted(manifest.table["kind"].to_pylist())
    assert kinds == ["image", "image", "video", "video"], f"got {kinds}: look at {dataset} with `reelpack explain`"
    start = time.monotonic()
    summary = train_here(dataset, str(run), config)
    spent = f"{summary.num_parameters:,} parameters, {summary.steps} steps in {time.monotonic() - start:.0f} s"
    print(f"{spent}; {int(manifest.num_tokens.sum())} tokens a step")
    losses = before_and_after(run, manifest)
    share = losses[1] / losses[0]
    print(f"loss with fixed noise: {losses[0]:.4f} before, {losses[1]:.4f} after: {share:.2%}")
    samples = reproduce(run, manifest, config)
    told = show(samples)
    if any(task.kind == "first_frames" for task in config.train.data.tasks):
        print("from the first frame, without a caption:")
        samples += (begun := reproduce(run, manifest, config, from_start=True))
        told = show(begun) and told
    picture = out / "samples.png"
    side_by_side(samples).save(picture)
    print(f"targets beside samples: {picture}")
    met = share < PROMISED_SHARE and told
    verdict = "met" if met else "MISSED"
    print(f"below {PROMISED_SHARE:.0%}, and each sample nearest to its own target: {verdict}")
    return met


def make_inputs(folder: Path) -> None:
    """Two videos of one shot each, and two pictures."""
    if folder.exists():
        return
    frames = np.stack([frame.rgb for frame in iter_frames(str(MEDIA / "bbb_a.mp4"), short_side_px=360)])
    folder.mkdir(parents=True)
    for name, (start, end) in CLIPS.items():
        (folder / name).write_bytes(encode_mp4(frames[start:end], FPS))
    for name, number in IMAGES.items():
        Image.fromarray(frames[number]).save(folder / name)


def before_and_after(run: Path, manifest: Manifest) -> tuple[float, float]:
    """The loss of the training samples at fixed timesteps and noise: of the first weights, of the averaged last."""
    model, config, record = load_model(run)
    device = pick_device(config.device)
    ranks = RankGrid(rank=0, world_size=1, device=device)
    context = EvaluationContext(
        train=manifest,
        val=manifest,
        objective=config.objective.build(),
        plan=config.data.plan,
        model=config.model,
        ranks=ranks,
        out=run,
    )
    evaluator = HeldOutLoss(config.evaluate.held_out, context)

    def loss(model: nn.Module) -> float:
        return float(evaluator.losses(model.to(device))["loss"])

    return loss(build_model(config, record)), loss(model)


def reproduce(run: Path, manifest: Manifest, config: Config, *, from_start: bool = False) -> list[Reproduced]:
    """What sampling with the caption of each training sample gives, or with the first frame of each clip."""
    rows = [manifest.row(i) | {"captions": manifest.captions([i])[0]} for i in range(len(manifest))]
    rows = [row for row in rows if row["kind"] == "video" or not from_start]
    rows.sort(key=lambda row: (row["kind"], row["clip_id"]))
    stride_t, stride = manifest.latents["temporal_stride"], manifest.latents["spatial_stride"]
    reader = ClipReader(manifest, config.train.model.patch)
    requests = [
        Request(
            prompt="" if from_start else row["captions"].get("dense") or row["captions"]["short"],
            width=row["latent_w"] * stride,
            height=row["latent_h"] * stride,
            num_frames=1 + (row["latent_t"] - 1) * stride_t,
            given=Given(start=reader.latent(row)[:, :1]) if from_start else Given(),
        )
        for row in rows
    ]
    prompts = {request.prompt for request in requests}
    assert from_start or len(prompts) == len(requests), "captions do not tell the samples apart"
    autoencoder = autoencoder_of(manifest.latents)
    first = 1 if from_start else 0  # the start is not counted
    found = []
    for row, generated in zip(rows, sample(run, requests, config.sample), strict=True):
        target = reader.latent(row)
        found.append(
            Reproduced(
                name=f"{row['kind']} {row['clip_id'][:8]}",
                prompt=generated.request.prompt,
                target=decode_latent(autoencoder, target)[first:],
                sampled=decode_latent(autoencoder, generated.latent)[first:],
                latent_share=float((generated.latent - target).square().mean() / target.var()),
            )
        )
    return found


def show(samples: list[Reproduced]) -> bool:
    """Prints the PSNR of each; True if each is nearest to its own target."""
    told = True
    for one in samples:
        own = psnr(one.target, one.sampled)
        others = [psnr(o.target, one.sampled) for o in samples if o is not one and o.target.shape == one.target.shape]
        told = told and all(own > other for other in others)
        beside = ", ".join(f"{other:.1f}" for other in others)
        print(
            f"  {one.name}: PSNR {own:.1f} dB (against the other: {beside}), error of the latent "
            f"{one.latent_share:.2%} of its variance; {one.prompt!r}"
        )
    return told


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """dB, of 8-bit pictures."""
    error = float(np.square(a.astype(np.float64) - b).mean())
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def side_by_side(samples: list[Reproduced], scale: int = 2) -> Image.Image:
    """A row per sample: first, middle and last frame of the target, then of the sample."""
    rows = []
    for one in samples:
        moments = sorted({0, len(one.target) // 2, len(one.target) - 1})  # of an image one
        frames = [video[moment] for video in (one.target, one.sampled) for moment in moments]
        rows.append(np.concatenate(frames, axis=1))
    height, width = sum(len(row) for row in rows), max(row.shape[1] for row in rows)
    sheet = np.zeros((height, width, 3), np.uint8)
    top = 0
    for row in rows:
        sheet[top : top + len(row), : row.shape[1]] = row
        top += len(row)
    return Image.fromarray(sheet).resize((width * scale, height * scale), Image.Resampling.NEAREST)


if __name__ == "__main__":
    main()
