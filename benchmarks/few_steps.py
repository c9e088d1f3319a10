"""Samplers at few steps: distance of samples from held-out clips, and packed sampling beside one by one.

    python -m benchmarks.few_steps OUT [--steps 1500] [--samples 64] [--train 400] [--held-out 160]

Makes the moving shapes (`benchmarks.moving_shapes`) in OUT/shapes and trains a small DiT on them in OUT/run. A stopped
training resumes. Then it samples captions of held-out clips from the same noise by every sampler, with 4 to 50 steps,
with levels as the run was trained and with levels shifted to noise. It prints the Fréchet and the kernel distance of
the evaluator, with the interval of the latter. What was measured before is not measured again.
"""

import argparse
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from benchmarks import moving_shapes
from benchmarks.machine import described
from pipelines.config import load_config
from pipelines.drivers.train import train_here
from train.autoencoder.config import autoencoder_of
from train.autoencoder.pixels import decode_latent
from train.evaluate.quality.clips import RealClip, View, read_clips
from train.evaluate.quality.config import MeasureConfig
from train.evaluate.quality.measure import SeenSet, measure
from train.evaluate.quality.observe import Observer
from train.evaluate.video_features.config import FramesConfig
from train.sampling.config import SampleConfig
from train.sampling.loaded import LoadedRun
from train.sampling.request import Request
from train.sampling.sample import draw

VIEW = View(width=64, height=64, num_frames=17, fps=12.0)
SAMPLERS = ("euler", "heun", "unipc", "dpm-solver++")
STEPS = (50, 4, 8, 16)
"""The most first: what others are compared with."""
SHIFT_BASE_TOKENS = 16
"""Samples of 80 tokens are shifted by sqrt(80 / 16), about 2.2."""
TRAIN = (
    "model.width=128", "model.depth=4", "model.num_heads=4", "model.position=sincos", "objective.timesteps=uniform",
    "data.plan.token_budget=1024", "optimizer={lr: 0.002, warmup_steps: 20, schedule: cosine}", "ema.decay=0.99",
    "evaluate={held_out: {every: 500}, captions: {every: 0}}", "checkpoint.every=250", "device=cpu",
)  # fmt: skip
REPEATS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1500, help="of the training")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--train", type=int, default=400, help="clips that train")
    parser.add_argument("--held-out", type=int, default=160, help="clips that do not")
    parser.add_argument("--guidance", type=float, default=1.5)
    parser.add_argument("--only-train", action="store_true", help="sample and measure in a later call")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    run = made(arguments.out, arguments.steps, arguments.train, arguments.held_out)
    if arguments.only_train:
        return
    print(described())
    loaded = LoadedRun(run, SampleConfig(device="cpu"))
    clips = [clip for clip in read_clips([str(arguments.out / "shapes")], "val") if clip.fits(VIEW)]
    asked = requests([clip.caption for clip in clips], arguments.samples)
    report_packing(loaded, asked[:12], arguments.guidance)
    file = f"few_steps-{loaded.step}-{len(asked)}-{arguments.guidance:g}.jsonl"
    report_distances(loaded, clips, asked, arguments.guidance, arguments.out / file)


def made(out: Path, steps: int, num_train: int, num_held_out: int) -> str:
    """The run, trained where it is not there."""
    shapes, run = out / "shapes", out / "run"
    if not run.is_dir():
        moving_shapes.make(shapes, num_train, num_held_out)
    if not (run / "summary.json").is_file():
        settings = (*TRAIN, f"steps={steps}")
        train_here(str(shapes), str(run), load_config(None, [f"train.{one}" for one in settings]))
    return str(run)


def requests(captions: list[str], count: int) -> list[Request]:
    """Captions in turn, each from its own noise."""
    return [
        Request(
            prompt=captions[i % len(captions)],
            width=VIEW.width,
            height=VIEW.height,
            num_frames=VIEW.num_frames,
            seed=i,
        )
        for i in range(count)
    ]


def report_packing(loaded: LoadedRun, asked: list[Request], guidance: float) -> None:
    """Seconds of 12 prompts, in the packs of the run's budget and one by one, in turns."""
    config = SampleConfig.model_validate({"num_steps": 8, "guidance": guidance, "device": "cpu"})
    spent: dict[str, list[float]] = {"packed": [], "one by one": []}
    list(draw(loaded, asked[:1], config))  # loads the text encoder
    for _ in range(REPEATS):
        for name, groups in (("packed", [asked]), ("one by one", [[one] for one in asked])):
            start = time.process_time()
            for group in groups:
                list(draw(loaded, group, config))
            spent[name].append(time.process_time() - start)
    packed, single = (min(spent[name]) for name in ("packed", "one by one"))
    print(f"{len(asked)} prompts, CPU seconds: packed {packed:.2f}, one by one {single:.2f}: {single / packed:.2f} x")


def report_distances(
    loaded: LoadedRun, clips: list[RealClip], asked: list[Request], guidance: float, file: Path
) -> None:
    """One line for each sampler, number of steps and shift of the levels."""
    measured = MeasureConfig(features=(FramesConfig(num_frames=4),), text=())
    observer = Observer(measured, loaded.device)
    decoder = autoencoder_of(loaded.record.latents, loaded.device)
    held_out = seen(observer, [clip.frames(VIEW) for clip in clips])
    known = {(row["shift"], row["sampler"], row["steps"]): row for row in read(file)}
    trained = loaded.config
    print(f"{len(asked)} samples, {len(clips)} held-out clips; kernel distance x 1000 (interval), Fréchet distance")
    for shift in (None, SHIFT_BASE_TOKENS):
        objective = trained.objective.model_copy(update={"shift_base_tokens": shift})
        loaded.config = trained.model_copy(update={"objective": objective})
        for sampler in SAMPLERS:
            for steps in STEPS:
                key = (shift, sampler, steps)
                if key not in known:
                    config = SampleConfig.model_validate(
                        {"sampler": sampler, "num_steps": steps, "guidance": guidance, "device": "cpu"}
                    )
                    drawn = dict(draw(loaded, asked, config))
                    videos = [decode_latent(decoder, drawn[i].latent) for i in range(len(asked))]
                    figures = measure(seen(observer, videos), held_out, seen(observer, []), measured)
                    (found,) = figures.distances.values()
                    known[key] = dict(zip(("shift", "sampler", "steps"), key, strict=True)) | {
                        "kernel": found.kernel.value,
                        "low": found.kernel.low,
                        "high": found.kernel.high,
                        "frechet": found.frechet.value,
                    }
                    with file.open("a") as lines:
                        lines.write(json.dumps(known[key]) + "\n")
                show(known[key], known.get((shift, sampler, STEPS[0])))


def seen(observer: Observer, videos: Iterable[Any]) -> SeenSet:
    found = [observer.see(rgb, VIEW.fps) for rgb in videos]
    return SeenSet(videos=found, names=[str(i) for i in range(len(found))])


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def show(row: dict[str, Any], most: dict[str, Any] | None) -> None:
    """`most`: the same sampler with the most steps, if it is known already."""
    levels = "as trained" if row["shift"] is None else f"shifted, base {row['shift']}"
    kernel, low, high = (1000 * row[name] for name in ("kernel", "low", "high"))
    beside = "" if most is None else f"{row['kernel'] / most['kernel']:8.2f} x at {STEPS[0]}"
    cells = f"{levels:18}{row['sampler']:14}{row['steps']:4}{kernel:9.2f} ({low:.2f} - {high:.2f})"
    print(f"{cells}{row['frechet']:9.2f}{beside}", flush=True)


if __name__ == "__main__":
    main()
