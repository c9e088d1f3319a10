"""A cascade of three runs on moving shapes, each stage measured beside what needs no model.

    python -m benchmarks.cascade OUT [--steps 600] [--stages larger between] [--measure-only]

The clips of `benchmarks.moving_shapes` are encoded four times: 64 x 64 px at 12 frames per second, and 32 x 32 px at
12, 6 and 3. `base` learns the smallest, five frames; `between` learns to double the rate, at both rates; `larger`
learns to double the sides, and `larger_unet` does with a U-Net of temporal convolutions and no attention at its first
level, as Imagen Video's models for super-resolution.

Printed is the PSNR of held-out clips against their true pixels. Every row starts from the same latents, those of the
true clip at the size or rate below, as the autoencoder decodes them. `decoded truth` is what the autoencoder makes of
the true clip: no stage can expect more. Where all stages of it are trained, `base`, `between` twice and `larger` draw
from held-out captions alone, by the command that users have; printed is how many show the color and the direction that
the caption names. Pictures lie in OUT. The same command resumes a stopped run.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from benchmarks.machine import described
from benchmarks.moving_shapes import FPS, MovingShape, color_of, direction_of, make, read, shape_of
from benchmarks.moving_shapes import SETTINGS as SHAPES
from benchmarks.overfit import psnr
from benchmarks.tasks import LONE_FRAMES
from curate.media.decode import decode_clip
from pipelines.config import load_config
from pipelines.drivers.encode import encode
from pipelines.drivers.train import train_here
from pipelines.generation.asked import Asked
from pipelines.generation.generator import Generator
from train.autoencoder.base import VideoAutoencoder
from train.autoencoder.config import autoencoder_of
from train.autoencoder.pixels import decode_latent, to_video
from train.data.conditioning.spatial import Spatial
from train.data.manifest import read_manifest
from train.data.read import ClipReader
from train.packing.patches import patchify, unpatchify
from train.sampling.config import SampleConfig
from train.sampling.guidance.config import ConstantGuidance
from train.sampling.request import Request
from train.sampling.sample import sample

SIZE = (17, 64, 64)
ENCODINGS: Mapping[str, tuple[str, ...]] = {
    "large": LONE_FRAMES,
    "small": ("encode.multiple_px=8", "encode.max_area_px=1024"),
    "small_6": ("encode.multiple_px=8", "encode.max_area_px=1024", "encode.fps=6"),
    "small_3": ("encode.multiple_px=8", "encode.max_area_px=1024", "encode.fps=3"),
}
DIT = "{patch: [1, %d, %d], width: 128, depth: 4, num_heads: 4, text: cross_attention}"
UNET = (
    "{kind: unet, width: 32, multipliers: [1, 2], depths: [1, 1], attention_levels: [1], temporal: convolution, "
    "head_width: 32, num_groups: 8, condition_width: 128}"
)
STAGES: Mapping[str, tuple[tuple[str, ...], str, str]] = {
    "base": (("small_3",), "[]", DIT % (1, 1)),
    "between": (("small", "small_6"), "[{kind: temporal}]", DIT % (1, 1)),
    "larger": (("large",), "[{kind: spatial}]", DIT % (2, 2)),
    "larger_unet": (("large",), "[{kind: spatial}]", UNET),
}
"""Name → encodings that it is trained on, what it is conditioned on, and its model."""
CASCADE = ("base", "between", "between", "larger")

SETTINGS = (
    "execute.executor=local",
    "train.data.caption_dropout=0.1",
    "train.data.plan={token_budget: 480, packs_per_step: 1}",
    "train.objective={kind: flow, timesteps: uniform}",
    "train.optimizer={lr: 0.002, warmup_steps: 100, schedule: cosine, betas: [0.9, 0.99]}",
    "train.ema.decay=0.995",
    "train.evaluate.captions.every=0",
    "train.evaluate.held_out.every=500",
    "train.checkpoint.every=100",
)


SAMPLING = SampleConfig(num_steps=20, guidance=(ConstantGuidance(weight=1),), device="cpu")
NUM_MEASURED, NUM_SHOWN, SCALE = 16, 4, 2
DOUBLED, RIDGE = (1, 2, 2), 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--measure-only", action="store_true", help="of the stages that are trained")
    parser.add_argument("--train", type=int, default=800, help="clips that train")
    parser.add_argument("--held-out", type=int, default=120, help="clips that do not, of all sizes")
    arguments = parser.parse_args()
    print(described())
    dataset, names = make_dataset(arguments.out, arguments.stages, arguments.train, arguments.held_out)
    for stage in arguments.stages if not arguments.measure_only else ():
        train_stage(dataset, arguments.out / stage, stage, names, arguments.steps)
    measure(arguments.out, dataset, names, arguments.stages)


def make_dataset(out: Path, stages: Sequence[str], num_train: int, num_held_out: int) -> tuple[str, dict[str, str]]:
    """The dataset, and the fingerprint of each of its encodings that the stages need."""
    dataset = str(out / "dataset")
    make(dataset, num_train, num_held_out, settings=ENCODINGS["large"])
    needed = ("large", "small") if all(stage.startswith("larger") for stage in stages) else ENCODINGS
    encoded = {name: encode(dataset, load_config(None, [*SHAPES, *ENCODINGS[name]])) for name in needed}
    return dataset, {name: summary.latents for name, summary in encoded.items()}


def train_stage(dataset: str, out: Path, stage: str, names: Mapping[str, str], steps: int) -> None:
    encodings, conditioning, model = STAGES[stage]
    latents = ", ".join(names[name] for name in encodings)
    data = (f"train.data.latents=[{latents}]", f"train.data.conditioning={conditioning}", f"train.model={model}")
    train_here(dataset, str(out), load_config(None, [*SETTINGS, *data, f"train.steps={steps}"]))


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Held-out clips of `SIZE`: what each shows, its latents by encoding, and pixels at both sizes."""

    clips: list[MovingShape]
    latents: dict[str, list[Tensor]]
    autoencoder: VideoAutoencoder

    @classmethod
    def of(cls, dataset: str, names: Mapping[str, str]) -> "HeldOut":
        known = read(dataset)
        found = {name: _latents(dataset, fingerprint, "val") for name, fingerprint in names.items()}
        record = read_manifest(dataset, split="val", patch=(1, 1, 1), latents=names["large"], text="none").latents
        clips = [one for one in known.values() if one.split == "val" and one.size == SIZE][:NUM_MEASURED]
        latents = {name: [of_clip[clip.clip_id] for clip in clips] for name, of_clip in found.items()}
        return cls(clips=clips, latents=latents, autoencoder=autoencoder_of(record))

    def decoded(self, latents: Sequence[Tensor]) -> list[np.ndarray]:
        return [decode_latent(self.autoencoder, latent) for latent in latents]

    def truth(self, side: int) -> list[np.ndarray]:
        return [resized(clip.frames(), side) for clip in self.clips]

    def drawn(self, run: Path, side: int, fps: float, lower: Sequence[Tensor], noise: float = 0.0) -> list[Tensor]:
        """What a run makes of these latents."""
        kind = STAGES[run.name][1].removeprefix("[{kind: ").removesuffix("}]")
        frames = 1 + round((SIZE[0] - 1) * fps / FPS)
        requests = [
            Request(prompt=clip.caption, width=side, height=side, num_frames=frames, conditioning={kind: latent})
            for clip, latent in zip(self.clips, lower, strict=True)
        ]
        config = SAMPLING.model_copy(update={"fps": fps, "conditioning_noise": noise})
        return [one.latent for one in sample(run, requests, config)]


def measure(out: Path, dataset: str, names: Mapping[str, str], stages: Sequence[str]) -> None:
    held_out, trained = HeldOut.of(dataset, names), [name for name in stages if (out / name / "run.json").exists()]
    small, decoded = held_out.latents, {name: held_out.decoded(held_out.latents[name]) for name in names}
    larger: dict[str, list[np.ndarray]] = {
        **{mode: [resized(rgb, 64, mode) for rgb in decoded["small"]] for mode in ("nearest", "bilinear", "bicubic")},
        "bilinear, of latents": held_out.decoded([Spatial().on_grid(one, (5, 8, 8)) for one in small["small"]]),
    }
    larger["linear map of latents"] = held_out.decoded(linear_map(dataset, names, small["small"]))
    for name in [name for name in trained if name.startswith("larger")]:
        for noise in (0.0, 0.1, 0.3):
            latents = held_out.drawn(out / name, 64, 12, small["small"], noise)
            larger[f"{name}, noise {noise:g}"] = held_out.decoded(latents)
    larger["decoded truth"] = decoded["large"]
    show("sides doubled, 64 x 64 px", held_out.truth(64), larger, out)
    if "between" in trained:
        once, twice = between(held_out, out / "between", decoded)
        show("rate doubled, 6 to 12", held_out.truth(32), once, out)
        show("rate doubled twice by one model, 3 to 12", held_out.truth(32), twice, out)
    if set(CASCADE) <= set(trained):
        from_prompts(out, held_out.clips)


def from_prompts(out: Path, clips: Sequence[MovingShape]) -> None:
    """The whole cascade from captions, beside the true clips that it has not seen."""
    generator = Generator([str(out / stage) for stage in CASCADE], SAMPLING)
    asked = [
        Asked(prompt=clip.caption, width=SIZE[2], height=SIZE[1], num_frames=SIZE[0], seed=seed)
        for seed, clip in enumerate(clips)
    ]
    files = [out / "prompts" / f"{number:02d}.mp4" for number in range(len(asked))]
    for _ in generator.make(asked, SAMPLING, lambda number: files[number]):
        pass
    made = [decode_clip(file.read_bytes()).rgb for file in files]
    print(f"\nfrom the captions of {len(clips)} held-out clips, {', '.join(CASCADE)}: {SIZE[2]} x {SIZE[1]} px")
    for name, videos in (("cascade", made), ("true pixels", [clip.frames() for clip in clips])):
        found = [seen(video) for video in videos]
        shown = sum(one is not None for one in found)
        color = sum(one is not None and one[0] == clip.color for one, clip in zip(found, clips, strict=True))
        way = sum(one is not None and one[1] == clip.direction for one, clip in zip(found, clips, strict=True))
        print(f"  {name:32} a shape in {shown}, its color in {color}, its direction in {way}")
    rows = [np.concatenate(list(video[::4]), axis=1) for video in made[: 2 * NUM_SHOWN]]
    Image.fromarray(np.concatenate(rows)).save(out / "prompts.png")
    print(f"  rows of the first {2 * NUM_SHOWN} videos: {out / 'prompts.png'}")


def seen(video: np.ndarray) -> tuple[str, str] | None:
    """Color and direction of the shape in (T, H, W, 3) uint8; None: none is in the first or the last frame."""
    shapes = [shape_of(frame.astype(float)) for frame in (video[0], video[-1])]
    if not all(shape.any() for shape in shapes):
        return None
    return color_of(video[0], shapes[0]), direction_of(np.stack([np.argwhere(shape).mean(0) for shape in shapes]))


def linear_map(dataset: str, names: Mapping[str, str], lower: Sequence[Tensor]) -> list[Tensor]:
    """Latents of doubled sides, (C, T, 2 h, 2 w): each 2 x 2 is linear in the 3 x 3 x 3 around it in the smaller
    latent, by least squares over the training clips, with weights of their own in the first frame. A model below it
    has not learned what the smaller latent says."""
    small, large = (_latents(dataset, names[name], "train") for name in ("small", "large"))
    clips = [clip for clip, one in small.items() if large[clip].shape[1:] == _doubled(one)]
    inputs = torch.cat([_neighbors(small[clip]) for clip in clips]).double()
    outputs = torch.cat([patchify(large[clip], DOUBLED) for clip in clips]).double()
    gram = inputs.T @ inputs + RIDGE * torch.eye(inputs.shape[1], dtype=torch.double)
    weights = torch.linalg.solve(gram, inputs.T @ outputs).float()
    return [unpatchify(_neighbors(one) @ weights, one.shape[1:], DOUBLED) for one in lower]


def _doubled(latent: Tensor) -> tuple[int, ...]:
    """(T, 2 h, 2 w) of (C, T, h, w)."""
    return tuple(side * times for side, times in zip(latent.shape[1:], DOUBLED, strict=True))


def _latents(dataset: str, fingerprint: str, split: Literal["train", "val"]) -> dict[str, Tensor]:
    """By clip."""
    manifest = read_manifest(dataset, split=split, patch=(1, 1, 1), latents=fingerprint, text="none")
    reader = ClipReader(manifest, (1, 1, 1))
    return {row["clip_id"]: reader.latent(row) for row in map(manifest.row, range(len(manifest)))}


def _neighbors(latent: Tensor) -> Tensor:
    """The 3 x 3 x 3 around each place of (C, T, h, w), and again where the frame is the first: (T h w, features)."""
    c, t, h, w = latent.shape
    padded = F.pad(latent[None], (1,) * 6, mode="replicate")[0]
    around = padded.unfold(1, 3, 1).unfold(2, 3, 1).unfold(3, 3, 1)  # (C, T, h, w, 3, 3, 3)
    features = torch.cat([around.permute(1, 2, 3, 0, 4, 5, 6).reshape(t, h * w, c * 27), torch.ones(t, h * w, 1)], -1)
    is_first = (torch.arange(t) == 0).float()[:, None, None]
    return torch.cat([features, features * is_first], -1).flatten(0, 1)


def between(
    held_out: HeldOut, run: Path, decoded: Mapping[str, list[np.ndarray]]
) -> tuple[dict[str, list[np.ndarray]], dict[str, list[np.ndarray]]]:
    """From 6 frames per second to 12, and from 3 to 6 to 12."""
    once = held_out.drawn(run, 32, 12, held_out.latents["small_6"])
    first = held_out.drawn(run, 32, 6, held_out.latents["small_3"])
    found = []
    for name, latents, step in (("small_6", once, 2), ("small_3", held_out.drawn(run, 32, 12, first), 4)):
        found.append({
            "copying": [in_time(rgb, step, blend=False) for rgb in decoded[name]],
            "linear blending": [in_time(rgb, step, blend=True) for rgb in decoded[name]],
            "between": held_out.decoded(latents),
            "decoded truth": decoded["small"],
        })  # fmt: skip
    return found[0], found[1]


def resized(rgb: np.ndarray, side: int, mode: str = "bilinear") -> np.ndarray:
    """Frames (T, H, W, 3) uint8, their sides scaled."""
    video = to_video(rgb)[0].transpose(0, 1)  # (T, 3, H, W)
    scaled = F.interpolate(video, (side, side), mode=mode, antialias=side < rgb.shape[1])
    return ((scaled.permute(0, 2, 3, 1) + 1) * 127.5).round().clamp(0, 255).byte().numpy()


def in_time(rgb: np.ndarray, step: int, *, blend: bool) -> np.ndarray:
    """Frames (T, H, W, 3) uint8 of a video at a lower rate, at a rate that is `step` times as high."""
    at = np.arange(1 + (len(rgb) - 1) * step) / step
    before = np.floor(at).astype(int)
    after = np.minimum(before + 1, len(rgb) - 1)
    share = (at - before if blend else np.round(at - before))[:, None, None, None]
    return np.rint((1 - share) * rgb[before] + share * rgb[after]).astype(np.uint8)


def show(title: str, truth: list[np.ndarray], made: Mapping[str, list[np.ndarray]], out: Path) -> None:
    """Print a table, and write a picture: a row of frames for each way, of a few clips."""
    print(f"\n{title}: PSNR to the true pixels of {len(truth)} held-out clips, mean and its standard error, dB")
    for name, videos in made.items():
        values = np.array([psnr(a, b) for a, b in zip(truth, videos, strict=True)])
        print(f"  {name:32} {values.mean():6.2f} ± {values.std(ddof=1) / len(values) ** 0.5:.2f}")
    rows = [
        np.concatenate(list(video[2:15:3]), axis=1)
        for clip in range(NUM_SHOWN)
        for video in (*(videos[clip] for videos in made.values()), truth[clip])
    ]
    picture = Image.fromarray(np.concatenate(rows))
    path = out / f"{title.split(',')[0].replace(' ', '_')}.png"
    picture.resize((picture.width * SCALE, picture.height * SCALE), Image.Resampling.NEAREST).save(path)
    print(f"  rows of {', '.join(made)}, truth; {NUM_SHOWN} clips: {path}")


if __name__ == "__main__":
    main()
