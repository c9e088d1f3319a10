"""Generation tasks on moving shapes, beside copying the nearest given frame and blending linearly; and their cost.

    python -m benchmarks.tasks OUT [--steps 2200] [--clips 8]

OUT/dataset is made by `benchmarks.moving_shapes` and encoded with frames that are encoded alone, too. OUT/run is
trained on all tasks by equal weights; the same command continues it. Held-out clips of 17 frames are generated from
what each task is given, and compared with the true pixels where nothing was given: PSNR, dB, mean over clips. The
autoencoder's own reconstruction bounds it. OUT/tasks.png shows some: truth, blend, model.

A loop has no truth: its figure is the PSNR of its last frame beside its first, and of the middle frame.

The cost is CPU seconds of loading, forward and backward of equal packs with all tasks, over those without a task.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.machine import described
from benchmarks.moving_shapes import SETTINGS, make, read
from pipelines.config import load_config
from pipelines.drivers.encode import encode
from tests.support.timing import median_seconds
from train.autoencoder.config import autoencoder_of
from train.autoencoder.pixels import decode_latent
from train.data.load import PackLoader
from train.data.manifest import Manifest, read_manifest
from train.data.plan import Cursor
from train.data.read import ClipReader
from train.loop import train
from train.run.config import TrainConfig
from train.run.folder import RunRecord, build_model
from train.sampling.config import SampleConfig
from train.sampling.given import Given
from train.sampling.request import Request
from train.sampling.sample import sample

NUM_FRAMES, SIDE = 17, 64
STRIDE, PX = 4, 8
LATENT_FRAMES = 1 + (NUM_FRAMES - 1) // STRIDE
PATCH = (1, 2, 2)
KEYS, KEPT = (0, 2, 4), (0, 2, 4)
TASKS = (
    "unconditional", "first_frames", "last_frames", "both_ends", "key_frames", "random_frames", "inpainting",
)  # fmt: skip
SHOWN = (0, 4, 8, 12, 16)
NUM_PICTURES = 2
NUM_TIMED_PACKS = 4
LONE_FRAMES = ("encode.lone_frames=all",)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A task on one clip. Pixels that are given are known to the baselines.

    Attributes:
        given: for the model.
        known: (T, H, W) bool, true pixels that the baselines have.
    """

    given: Given
    known: np.ndarray


def cases(latent: Tensor, alone: Tensor) -> dict[str, Case]:
    """By task, of a clip's latent and its frames encoded alone, (C, T, H, W) each."""
    frames = np.zeros((NUM_FRAMES, SIDE, SIDE), bool)

    def with_frames(*numbers: int) -> np.ndarray:
        known = frames.copy()
        known[list(numbers)] = True
        return known

    hidden = np.zeros((LATENT_FRAMES, SIDE // PX // PATCH[1], SIDE // PX // PATCH[2]), bool)
    hidden[:, 1:3, 1:3] = True
    whole = np.zeros_like(hidden)
    whole[list(KEPT)] = True
    outside = ~np.kron(hidden[:1], np.ones((1, PX * PATCH[1], PX * PATCH[2]), bool))
    kept_frames = [frame for k in KEPT for frame in (range(STRIDE * k - 3, STRIDE * k + 1) if k else (0,))]
    last = LATENT_FRAMES - 1
    return {
        "unconditional": Case(given=Given(), known=frames),
        "first_frames": Case(given=Given(start=latent[:, :1]), known=with_frames(0)),
        "last_frames": Case(given=Given(frames={last: alone[:, last]}), known=with_frames(NUM_FRAMES - 1)),
        "both_ends": Case(
            given=Given(start=latent[:, :1], frames={last: alone[:, last]}), known=with_frames(0, NUM_FRAMES - 1)
        ),
        "key_frames": Case(
            given=Given(frames={k: alone[:, k] for k in KEYS}), known=with_frames(*(STRIDE * k for k in KEYS))
        ),
        "random_frames": Case(given=Given(video=latent, kept=whole), known=with_frames(*kept_frames)),
        "inpainting": Case(given=Given(video=latent, kept=~hidden), known=np.repeat(outside, NUM_FRAMES, axis=0)),
        "loop": Case(given=Given(start=latent[:, :1], frames={last: alone[:, 0]}), known=with_frames(0)),
    }


def filled(truth: np.ndarray, known: np.ndarray, *, blend: bool) -> np.ndarray:
    """The nearest given frame, or the linear blend of the two around; within frames along each row. (T, H, W, 3).

    Args:
        truth: (T, H, W, 3) uint8.
        known: (T, H, W) bool.
        blend: else the nearest is copied.
    """
    if not known.any():
        return np.full_like(truth, int(truth.mean()))
    axis = 0 if known.any(axis=(1, 2)).sum() < len(known) else 2
    lines, is_known = (np.moveaxis(x, axis, -1 if x.ndim == 3 else -2) for x in (truth, known))
    out = lines.astype(float)
    for at in np.ndindex(is_known.shape[:-1]):
        if is_known[at].all():
            continue
        places, missing = np.flatnonzero(is_known[at]), np.flatnonzero(~is_known[at])
        if blend:
            out[at][missing] = np.stack([np.interp(missing, places, line[places]) for line in out[at].T], axis=-1)
        else:
            out[at][missing] = out[at][places[np.abs(missing[:, None] - places).argmin(1)]]
    return np.moveaxis(out, -2, axis).round().astype(np.uint8)


def psnr(one: np.ndarray, other: np.ndarray, where: np.ndarray | None = None) -> float:
    """Of (T, H, W, 3) uint8, where (T, H, W) says so, dB."""
    errors = np.square(one.astype(float) - other.astype(float))
    return float(10 * np.log10(255**2 / (errors.mean() if where is None else errors[where].mean())))


def config(steps: int, tasks: Sequence[str], token_budget: int = 480) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "steps": steps,
            "device": "cpu",
            "model": {"width": 128, "depth": 4, "num_heads": 4, "patch": PATCH},
            "objective": {"kind": "flow", "timesteps": "uniform"},
            "data": {"tasks": [{"kind": task} for task in tasks], "plan": {"token_budget": token_budget}},
            "optimizer": {"lr": 2e-3, "warmup_steps": 100, "schedule": "cosine", "betas": [0.9, 0.99]},
            "ema": {"decay": 0.995},
            "evaluate": {"held_out": {"every": 0}, "captions": {"every": 0}},
            "checkpoint": {"every": 100, "keep": 1},
        }
    )


def held_out(dataset: Path, latents: str, num_clips: int) -> list[tuple[dict[str, Any], Tensor, Tensor]]:
    """Rows of the longest clips of the largest size, with latents and frames encoded alone."""
    manifest = read_manifest(str(dataset), split="val", patch=PATCH, latents=latents)
    reader, size = ClipReader(manifest, PATCH), (LATENT_FRAMES, SIDE // PX, SIDE // PX)
    rows = [manifest.row(number) for number in range(len(manifest))]
    rows = [row for row in rows if (row["latent_t"], row["latent_h"], row["latent_w"]) == size][:num_clips]
    found = []
    for row in rows:
        read = reader.read(row, lone_frames=range(LATENT_FRAMES))
        assert read.lone is not None
        found.append((row, read.latent, read.lone))
    return found


def quality(dataset: Path, latents: str, run: Path, num_clips: int, out: Path) -> list[str]:
    """Lines of the table; writes the pictures."""
    clips, known_clips = read(dataset), held_out(dataset, latents, num_clips)
    autoencoder = autoencoder_of(read_manifest(str(dataset), split="val", patch=PATCH, latents=latents).latents)
    truths = [clips[row["clip_id"]].frames() for row, _, _ in known_clips]
    of_tasks = [cases(latent, alone) for _, latent, alone in known_clips]
    names = list(of_tasks[0])
    requests = [
        Request(
            prompt=clips[row["clip_id"]].caption,
            width=SIDE,
            height=SIDE,
            num_frames=NUM_FRAMES,
            given=found[name].given,
        )
        for name in names
        for (row, _, _), found in zip(known_clips, of_tasks, strict=True)
    ]
    drawn = sample(run, requests, SampleConfig.model_validate({"num_steps": 25, "guidance": 1, "device": "cpu"}))
    videos = [decode_latent(autoencoder, one.latent) for one in drawn]
    bound = [decode_latent(autoencoder, latent) for _, latent, _ in known_clips]
    lines, sheet = ["| task | model | copy | blend | autoencoder |", "| --- | ---: | ---: | ---: | ---: |"], []
    for place, name in enumerate(names):
        made, rows = videos[place * len(truths) : (place + 1) * len(truths)], []
        for video, truth, case, best in zip(made, truths, [found[name] for found in of_tasks], bound, strict=True):
            copy, blend = (filled(truth, case.known, blend=how) for how in (False, True))
            unknown = ~case.known
            rows.append([psnr(one, truth, unknown) for one in (video, copy, blend, best)])
            if len(rows) <= NUM_PICTURES:
                sheet.append([truth, blend, video])
        if name == "loop":
            seams = [psnr(video[-1], video[0]) for video in made]
            moved = [psnr(video[NUM_FRAMES // 2], video[0]) for video in made]
            figures = f"{np.mean(seams):.1f}; {np.mean(moved):.1f}"
            lines.append(f"| loop: last frame beside the first; middle | {figures} | | | |")
        else:
            lines.append(f"| {name} | " + " | ".join(f"{value:.1f}" for value in np.mean(rows, axis=0)) + " |")
    contact_sheet(sheet).save(out / "tasks.png")
    return lines


def contact_sheet(cells: Sequence[Sequence[np.ndarray]]) -> Image.Image:
    """A row of pictures for each case: truth, blend, model, `SHOWN` frames each."""
    rows = [
        np.concatenate([np.pad(video[n], ((2, 2), (1, 1), (0, 0))) for video in videos for n in SHOWN], axis=1)
        for videos in cells
    ]
    return Image.fromarray(np.concatenate(rows))


def cost(dataset: Path, latents: str, num_repeats: int) -> str:
    """CPU seconds of a training step with tasks over those without."""
    torch.set_num_threads(1)
    manifest = read_manifest(str(dataset), split="train", patch=PATCH, latents=latents)
    ways = {"without": _step(manifest, ["unconditional"]), "with": _step(manifest, TASKS)}
    seconds = median_seconds(ways, torch.device("cpu"), num_repeats)
    ratio = seconds["with"] / seconds["without"]
    return f"a step with all tasks over one without: {ratio:.3f} ({seconds['without'] / NUM_TIMED_PACKS:.2f} s)"


def _step(manifest: Manifest, tasks: Sequence[str]) -> Any:
    """What loads and trains on the first packs."""
    settings = config(1, tasks, token_budget=960)
    settings = settings.model_copy(
        update={"model": settings.model.model_copy(update={"width": 384, "depth": 4, "num_heads": 6})}
    )
    objective, model = settings.objective.build(), build_model(settings, RunRecord.of(manifest))

    def run() -> None:
        loader = PackLoader(manifest, objective, settings.data, model=model.config, seed=0)
        for _, step in zip(range(NUM_TIMED_PACKS), loader.steps(Cursor(), 0, 1), strict=False):
            for batch in step.batches:
                objective.loss_sum(objective.token_losses(model, batch), batch).backward()
        model.zero_grad()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--clips", type=int, default=8, help="held-out clips of each task")
    parser.add_argument("--repeats", type=int, default=5, help="of the cost; 0: it is not measured")
    parser.add_argument("--train", type=int, default=800, help="clips that train")
    parser.add_argument("--held-out", type=int, default=120, help="clips that do not, of all sizes")
    arguments = parser.parse_args()
    out: Path = arguments.out
    dataset = out / "dataset"
    make(dataset, arguments.train, arguments.held_out, settings=LONE_FRAMES)
    latents = encode(str(dataset), load_config(None, [*SETTINGS, *LONE_FRAMES])).latents
    settings = config(arguments.steps, TASKS)
    settings = settings.model_copy(update={"data": settings.data.model_copy(update={"latents": latents})})
    summary = train(settings, str(dataset), out / "run")
    lines = [described(), f"{summary.num_parameters:,} parameters, {arguments.steps} steps", ""]
    lines += quality(dataset, latents, out / "run", arguments.clips, out)
    if arguments.repeats:
        lines += ["", cost(dataset, latents, arguments.repeats)]
    (out / "tasks.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
