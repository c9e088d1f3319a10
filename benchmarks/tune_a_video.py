"""Tune-A-Video (Wu et al. 2023) on moving shapes: the color of a clip's shape is edited, its way is to stay.

    python -m benchmarks.tune_a_video OUT [--steps 3000] [--tuning-steps 300] [--clips 4]

OUT/dataset is made by `benchmarks.moving_shapes`. OUT/base is trained on it, with attention within frames and along
time. OUT/clips has other clips; OUT/tuned-N learns one of them, with sparse-causal attention. The same command
continues. Each clip is edited to another color by its prompt, by SDEdit and by inversion, with and without tuning.
The shape is what differs from the gray. Measured of each result, mean over clips:

color     share of frames in which the shape's color is nearest to the one that the prompt says
way       px, mean distance of the shape's center from where it was in the clip; half a frame where there is no shape
shift     the same, once the mean difference is taken away: does it move as it did, wherever it is
ground    PSNR beyond the shapes, dB
consistency  mean cosine of frames that follow each other, by ConSE
prompt    mean cosine of frames with the edited prompt less that with the clip's own, by ConSE

OUT/tune_a_video.md has the table, OUT/tune_a_video.png some frames: a row for each clip and way, the clip first.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from benchmarks.machine import described
from benchmarks.moving_shapes import COLORS, MovingShape, color_of, make, shape_of
from benchmarks.tasks import PATCH, SHOWN, psnr
from curate.encoders.conse import ConseConfig
from train.autoencoder.config import autoencoder_of
from train.autoencoder.pixels import decode_latent
from train.data.manifest import read_manifest
from train.data.read import ClipReader
from train.evaluate.quality.text import clipsim, frame_consistency
from train.loop import train
from train.run.config import TrainConfig
from train.run.export import export_run
from train.run.folder import read_run
from train.sampling.config import SampleConfig
from train.sampling.given import Given
from train.sampling.request import Request
from train.sampling.sample import sample

SIDE, NUM_FRAMES = 64, 17
VIDEO, PICTURE = (NUM_FRAMES, SIDE, SIDE), (1, SIDE, SIDE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Edit:
    """A clip and the color that its shape gets."""

    clip: MovingShape
    latent: Tensor  # (C, T, H, W)

    @property
    def color(self) -> str:
        """Neither white, whose pixels deviate equally from every gray, nor the clip's own."""
        names = [name for name in COLORS if name not in ("white", self.clip.color)]
        return names[int(self.clip.clip_id, 16) % len(names)]

    @property
    def prompt(self) -> str:
        return replace(self.clip, color=self.color).caption


def base_config(steps: int) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "steps": steps,
            "device": "cpu",
            "model": {
                "width": 160,
                "depth": 4,
                "num_heads": 4,
                "patch": PATCH,
                "mixer": {"pattern": "factorized_self_attention"},
            },
            "objective": {"kind": "flow", "timesteps": "uniform"},
            "data": {"plan": {"token_budget": 640, "packs_per_step": 1}},
            "optimizer": {"lr": 2e-3, "warmup_steps": 100, "schedule": "cosine", "betas": [0.9, 0.99]},
            "ema": {"decay": 0.995},
            "evaluate": {"held_out": {"every": 0}, "captions": {"every": 0}},
            "checkpoint": {"every": 200, "keep": 1},
        }
    )


def tuned_config(model: Path, clip_id: str, steps: int, lr: float) -> TrainConfig:
    """As pipelines/configs/tune_a_video.yaml, at a larger rate for fewer steps."""
    settings: dict[str, Any] = base_config(steps).model_dump(mode="json")
    settings["model"]["mixer"]["pattern"] = "sparse_causal"
    settings["data"] |= {"clips": [clip_id], "caption_dropout": 0}
    settings["optimizer"] |= {"lr": lr, "warmup_steps": 0, "schedule": "constant"}
    settings |= {"init": str(model), "trainable": ["blocks.*.to_q.*", "blocks.*.self_attentions.1.*"]}
    return TrainConfig.model_validate(settings | {"ema": {"decay": 0}})


def measured(edit: Edit, video: np.ndarray, encoder: Any) -> dict[str, float]:
    """Figures of a result, (T, H, W, 3) uint8."""
    truth, truths = edit.clip.frames(), edit.clip.centers()
    shapes = [shape_of(frame.astype(float)) for frame in video]
    seen = [n for n, shape in enumerate(shapes) if shape.any()]
    hits, centers = 0, np.full((len(video), 2), np.nan)
    for n in seen:
        hits += color_of(video[n], shapes[n]) == edit.color
        centers[n] = np.argwhere(shapes[n]).mean(0)
    apart = centers - truths
    lost = len(video) - len(seen)

    def mean_distance(differences: np.ndarray) -> float:
        return float((np.hypot(*differences[seen].T).sum() + lost * SIDE / 2) / len(video))

    ground = ~(np.stack(shapes) | np.stack([shape_of(frame.astype(float)) for frame in truth]))
    frames, texts = encoder.embed_images(list(video)), encoder.embed_texts([edit.prompt, edit.clip.caption])
    return {
        "color": hits / len(video),
        "way": mean_distance(apart),
        "shift": mean_distance(apart - apart[seen].mean(0)) if seen else SIDE / 2,
        "ground": psnr(video, truth, ground),
        "consistency": frame_consistency(frames),
        "prompt": clipsim(frames, texts[0]) - clipsim(frames, texts[1]),
    }


def ways(num_steps: int, guidance: float) -> Mapping[str, tuple[dict[str, Any], bool]]:
    """How a clip is edited: settings of sampling, and whether the clip is given."""
    plain = {"num_steps": num_steps, "guidance": guidance, "device": "cpu"}
    return {
        "prompt alone": (plain, False),
        "SDEdit 0.6": (plain | {"strength": 0.6}, True),
        "SDEdit 0.8": (plain | {"strength": 0.8}, True),
        "inversion": (plain, True),
        "inversion 0.8": (plain | {"strength": 0.8}, True),
        "inversion, null-text": (plain | {"null_text": 10}, True),
    }


def edited(
    run: Path, edits: Sequence[Edit], settings: dict[str, Any], way: str, *, is_given: bool
) -> list[np.ndarray]:
    """Videos (T, H, W, 3) uint8 of a run."""
    inverts = way.startswith("inversion")
    requests = [
        Request(
            prompt=one.prompt,
            source=one.clip.caption if inverts else "",
            given=Given(video=one.latent, inverted=inverts) if is_given else Given(),
            width=SIDE,
            height=SIDE,
            num_frames=NUM_FRAMES,
        )
        for one in edits
    ]
    drawn = sample(run, requests, SampleConfig.model_validate(settings))
    autoencoder = autoencoder_of(read_run(run)[1].latents)
    return [decode_latent(autoencoder, one.latent) for one in drawn]


def chosen(dataset: Path, clips: Sequence[MovingShape], count: int) -> list[Edit]:
    """The first clips that are neither white nor stand still, with their latents."""
    manifest = read_manifest(str(dataset), split="train", patch=PATCH)
    reader = ClipReader(manifest, PATCH)
    rows = {row["clip_id"]: row for row in map(manifest.row, range(len(manifest)))}
    own = [clip for clip in clips if clip.color != "white" and np.abs(clip.velocity).max() > 0.8][:count]
    return [Edit(clip=clip, latent=reader.latent(rows[clip.clip_id])) for clip in own]


def strip(video: np.ndarray) -> np.ndarray:
    return np.concatenate([np.pad(video[n], ((2, 2), (1, 1), (0, 0))) for n in SHOWN], axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=3000, help="of the base")
    parser.add_argument("--tuning-steps", type=int, default=300)
    parser.add_argument("--tuning-lr", type=float, default=3e-4)
    parser.add_argument("--clips", type=int, default=4, help="that are edited")
    parser.add_argument("--num-steps", type=int, default=50, help="of a sample")
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--train", type=int, default=1500, help="clips of the base")
    arguments = parser.parse_args()
    out: Path = arguments.out
    make(out / "dataset", arguments.train, 0, sizes={VIDEO: 0.8, PICTURE: 0.2})
    clips = make(out / "clips", 24, 0, seed=1, sizes={VIDEO: 1.0})
    edits = chosen(out / "clips", clips, arguments.clips)
    base = train(base_config(arguments.steps), str(out / "dataset"), out / "base")
    if not (out / "model/config.json").exists():
        export_run(out / "base", out / "model")
    for number, edit in enumerate(edits):
        config = tuned_config(out / "model", edit.clip.clip_id, arguments.tuning_steps, arguments.tuning_lr)
        train(config, str(out / "clips"), out / f"tuned-{number}")
    encoder = ConseConfig(device="cpu").build()
    encoder.setup()
    autoencoder = autoencoder_of(read_run(out / "base")[1].latents)
    results = {"the clip": [decode_latent(autoencoder, one.latent) for one in edits]}
    for way, (settings, is_given) in ways(arguments.num_steps, arguments.guidance).items():
        results[f"base, {way}"] = edited(out / "base", edits, settings, way, is_given=is_given)
        results[f"tuned, {way}"] = [
            edited(out / f"tuned-{number}", [edit], settings, way, is_given=is_given)[0]
            for number, edit in enumerate(edits)
        ]
    first = measured(edits[0], results["the clip"][0], encoder)
    lines = [
        described(),
        f"base: {base.num_parameters:,} parameters, {arguments.steps} steps; tuning: {arguments.tuning_steps} steps "
        f"at {arguments.tuning_lr:g}; {arguments.num_steps} steps of sampling, guidance {arguments.guidance:g}; "
        + "; ".join(f"{one.clip.caption!r} to {one.color}" for one in edits),
        "",
        "| way | " + " | ".join(first) + " |",
        "| --- |" + " ---: |" * len(first),
    ]
    for name in sorted(results, key=lambda name: "the base tuned".index(name[:3])):
        rows = [measured(edit, video, encoder) for edit, video in zip(edits, results[name], strict=True)]
        means = {key: float(np.mean([row[key] for row in rows])) for key in first}
        digits = {"color": 2, "way": 1, "shift": 1, "ground": 1, "consistency": 3, "prompt": 3}
        lines.append(f"| {name} | " + " | ".join(f"{means[key]:.{digits[key]}f}" for key in first) + " |")
    (out / "tune_a_video.md").write_text("\n".join(lines) + "\n")
    shown = [strip(results[name][number]) for number in range(len(edits)) for name in results]
    grouped = [np.concatenate(shown[n : n + len(results)]) for n in range(0, len(shown), len(results))]
    Image.fromarray(np.concatenate(grouped, axis=1)).save(out / "tune_a_video.png")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
