"""An autoencoder of images becomes one of videos: flicker and PSNR of held-out clips, before and after.

    python -m benchmarks.temporal_decoder [OUT] [--image-steps 1500] [--steps 800]

Two small autoencoders of images are trained on single frames of the demo's film: a network of one's own whose frames
are coded alone, and an AutoencoderKL of diffusers. Then `reelpack train-autoencoder` gives the decoder of each
temporal layers; encoders stay as they are. Printed are the figures of excerpts that neither training saw, before and
after, and whether the promises hold: flicker falls, and PSNR does not. OUT/own.png and OUT/diffusers.png have rows of
frames: the source, before, after, and the changes from frame to frame of the three. A stopped run resumes.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.machine import described
from curate.encoders import weights
from curate.encoders.torchvision_cpu import repair
from curate.media.frames import iter_frames
from pipelines.config import load_config
from pipelines.drivers.train_autoencoder import FILM, train_autoencoder
from train.autoencoder.base import VideoAutoencoder
from train.autoencoder.check import quality
from train.autoencoder.given import autoencoder_given
from train.autoencoder.pixels import decode_latent, to_video
from train.autoencoder.training.clips import Batches, ClipSource
from train.autoencoder.training.config import HeldOutConfig, TrainAutoencoderConfig
from train.autoencoder.training.measure import held_out_clips
from train.autoencoder.training.sources import FilmClips, cache_frames

SHARED = (
    "dtype=bfloat16",
    "device=cpu",
    "num_measured=10",
    "held_out={every: 100000, max_clips: 8, max_frames: 33}",
    "checkpoint.every=100",
    "clips.short_side_px=[80, 160]",
)
IMAGES = (
    "network={over_time: false, temporal_stride: 1, spatial_stride: 4, latent_channels: 4, widths: [32]}",
    "network.bottleneck={kind: kl, weight: 1e-5}",
    "clips.lengths=[1]",
    "clips.batch_px=100000",
    "optimizer={lr: 0.003, warmup_steps: 50}",
)
VIDEOS = (
    "optimizer={lr: 0.004, warmup_steps: 20}",
    "ema.decay=0.99",
)
LENGTHS = {"own": ("clips.lengths=[1, 9]", "clips.batch_px=100000"),
           "diffusers": ("clips.lengths=[1, 7]", "clips.batch_px=40000")}  # fmt: skip
FIGURES = {"psnr_db": "PSNR, dB", "flicker": "flicker, of 255", "ssim": "SSIM"}
DIFFUSERS_LR, STATE_EVERY = 2e-3, 100
"""Greatest learning rate of the AutoencoderKL, and the steps after which it can resume."""
OPPOSED_FROM = 0.8
"""Share of the steps after which the discriminator of videos joins."""
SHOWN = (6, 12)
"""Frames of the picture."""
GAIN = 6
"""Changes are shown as many times as large."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", help="a folder that is kept; none: a temporary one")
    parser.add_argument("--image-steps", type=int, default=1500, help="of the networks of images")
    parser.add_argument("--steps", type=int, default=800, help="of the temporal layers")
    parser.add_argument("--only", choices=LENGTHS, help="one of the two")
    arguments = parser.parse_args()
    print(described(), flush=True)
    with tempfile.TemporaryDirectory(prefix="temporal-decoder-") as temporary:
        out = arguments.out or Path(temporary)
        kept = [
            compare(kind, out, arguments.image_steps, arguments.steps)
            for kind in LENGTHS
            if arguments.only in (None, kind)
        ]
    raise SystemExit(0 if all(kept) else 1)


def compare(kind: str, out: Path, image_steps: int, steps: int) -> bool:
    """Train a base and its temporal decoder, print and draw; True if the promises are kept."""
    frames = film(out)
    if kind == "own":
        base = f"{{kind: reelpack, path: {train(out / 'base', image_steps, IMAGES)}}}"
    else:
        base = f"{{kind: diffusers, path: {train_diffusers(out / 'vae', frames, image_steps)}}}"
    start = time.monotonic()
    chosen = f"temporal_decoder.base={base}"
    opposed = f"loss.adversary={{width: 16, depth: 2, start: {round(OPPOSED_FROM * steps)}, weight: 0.05}}"
    tuned = train(out / kind, steps, (opposed, *VIDEOS, *LENGTHS[kind], chosen))
    print(f"{kind}: {time.monotonic() - start:.0f} s")
    return show(
        kind, out, FilmClips(cache_frames((), frames)), [autoencoder_given(one).build() for one in (base, tuned)]
    )


def film(out: Path) -> Path:
    """Its frames, which all trainings in OUT share."""
    frames = out / "frames.npy"
    if not frames.exists():
        weights.fetch([FILM])
        decoded = iter_frames(str(weights.resolve(FILM)), short_side_px=TrainAutoencoderConfig().clips.decoded_px)
        cache_frames((frame.rgb for frame in decoded), frames)
    for name in ("base", *LENGTHS):
        (out / name).mkdir(parents=True, exist_ok=True)
        if not (out / name / frames.name).exists():
            (out / name / frames.name).symlink_to(frames.resolve())
    return frames


def train(out: Path, steps: int, settings: Sequence[str]) -> str:
    """By the command's driver; the folder of the weights."""
    given = [f"train_autoencoder.{one}" for one in (*SHARED, *settings, f"steps={steps}")]
    summary = train_autoencoder(FILM, out, load_config(None, given))
    for row in summary.rows:
        if "held_out" in row:
            told = ", ".join(f"{title} {row['held_out'][name]:.3f}" for name, title in FIGURES.items())
            print(f"{out.name}, step {row['step']}: {told}", flush=True)
    print(f"{summary.num_weights:,} trained weights, {out}", flush=True)
    return str(summary.weights)


def train_diffusers(folder: Path, frames: Path, steps: int) -> Path:
    """A small AutoencoderKL, trained on single frames by L1."""
    if (folder / "config.json").exists():
        return folder
    repair()
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
    )
    given = [f"train_autoencoder.{one}" for one in (*SHARED, *IMAGES, "clips.batch_px=30000")]
    config = load_config(None, given).train_autoencoder
    batches = Batches(FilmClips(cache_frames((), frames)), config.clips, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=DIFFUSERS_LR)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, DIFFUSERS_LR, total_steps=steps)
    parts = {"model": model, "optimizer": optimizer, "rate": rate}
    done, state = 0, folder / "state.pt"
    if state.exists():
        stored = torch.load(state, weights_only=True)
        done = stored.pop("done")
        for name, values in stored.items():
            parts[name].load_state_dict(values)
    with ThreadPoolExecutor(2) as pool:
        for step in range(done, steps):
            images = batches.batch(step, pool)[:, :, 0]
            posterior = model.encode(images).latent_dist
            drawn = posterior.sample(torch.Generator().manual_seed(step))
            loss = (model.decode(drawn).sample - images).abs().mean() + 1e-6 * posterior.kl().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
            if (step + 1) % STATE_EVERY == 0:
                print(f"{folder.name}, step {step + 1}: L1 {loss.item():.4f}", flush=True)
                folder.mkdir(parents=True, exist_ok=True)
                torch.save({"done": step + 1, **{name: part.state_dict() for name, part in parts.items()}}, state)
    model.register_to_config(scaling_factor=1 / posterior.mean.std().item())
    model.save_pretrained(folder)
    return folder


def show(kind: str, out: Path, source: ClipSource, autoencoders: Sequence[VideoAutoencoder]) -> bool:
    """Figures and picture of the base and of its temporal decoder."""
    config = HeldOutConfig(max_clips=8)
    stride = autoencoders[0].spatial_stride
    clips = held_out_clips(source, config, temporal_stride=1, multiple=max(8, stride))
    figures: list[dict[str, float]] = []
    pictures: list[np.ndarray] = [clips[0][slice(*SHOWN)]]
    for autoencoder in autoencoders:
        latents = [autoencoder.encode(to_video(clip)).half() for clip in clips]
        decoded = [decode_latent(autoencoder, latent) for latent in latents]
        figures.append(measured(clips, decoded))
        pictures.append(decoded[0][slice(*SHOWN)])
    for name, title in list(FIGURES.items())[:2]:
        print(f"{kind}: {title} {figures[0][name]:.3f} before, {figures[1][name]:.3f} after")
    draw(pictures, out / f"{kind}.png")
    kept = figures[1]["flicker"] < figures[0]["flicker"] and figures[1]["psnr_db"] >= figures[0]["psnr_db"]
    print(f"{kind}: {'kept' if kept else 'NOT KEPT'}: flicker falls, and PSNR does not", flush=True)
    return kept


def measured(clips: Sequence[np.ndarray], decoded: Sequence[np.ndarray]) -> dict[str, float]:
    """Means over pairs of (T, H, W, 3) uint8."""
    found = [quality("", clip, other) for clip, other in zip(clips, decoded, strict=True)]
    flickers = [one.flicker for one in found if one.flicker is not None]
    return {"psnr_db": float(np.mean([one.psnr_db for one in found])), "flicker": float(np.mean(flickers))}


def draw(videos: Sequence[np.ndarray], path: Path) -> None:
    """Rows of frames of (T, H, W, 3) uint8 each, then their changes."""
    rows = [np.concatenate(list(frames), axis=1) for frames in videos]
    for frames in videos:
        changes = np.abs(np.diff(frames.astype(np.int16), axis=0, prepend=frames[:1])) * GAIN
        rows.append(np.concatenate(list(changes.clip(0, 255).astype(np.uint8)), axis=1))
    Image.fromarray(np.concatenate(rows)).save(path)


if __name__ == "__main__":
    main()
