"""A cascade of three runs on moving shapes, each stage measured beside what needs no model.

    python -m benchmarks.cascade OUT [--steps 600] [--train-only]

The clips of `benchmarks.moving_shapes` are encoded four times: 64 x 64 px at 12 frames per second, and 32 x 32 px at
12, 6 and 3. `base` learns the smallest, five frames; `between` learns to double the rate, at both rates; `larger`
learns to double the sides, and `larger_unet` does with a U-Net of temporal convolutions and no attention at its first
level, as Imagen Video's models for super-resolution.

Printed is the PSNR of held-out clips against their true pixels. Every row starts from the same latents, those of the
true clip at the size or rate below, as the autoencoder decodes them. `decoded truth` is what the autoencoder makes of
the true clip: no stage can expect more. Pictures lie in OUT. A stopped run goes on.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

from benchmarks.machine import described
from benchmarks.moving_shapes import make
from pipelines.config import load_config
from pipelines.drivers.encode import encode
from pipelines.drivers.train import train_here

SIZE = (17, 64, 64)
ENCODINGS: Mapping[str, tuple[str, ...]] = {
    "large": ("encode.multiple_px=8",),
    "small": ("encode.multiple_px=8", "encode.max_area_px=1024"),
    "small_6": ("encode.multiple_px=8", "encode.max_area_px=1024", "encode.fps=6"),
    "small_3": ("encode.multiple_px=8", "encode.max_area_px=1024", "encode.fps=3"),
}
DIT = "{patch: [1, 1, 1], width: 96, depth: 4, num_heads: 4, text: cross_attention}"
UNET = (
    "{kind: unet, width: 32, multipliers: [1, 2], depths: [1, 1], attention_levels: [1], temporal: convolution, "
    "head_width: 32, num_groups: 8, condition_width: 128}"
)
STAGES: Mapping[str, tuple[tuple[str, ...], str, str]] = {
    "base": (("small_3",), "[]", DIT),
    "between": (("small", "small_6"), "[{kind: temporal}]", DIT),
    "larger": (("large",), "[{kind: spatial}]", DIT),
    "larger_unet": (("large",), "[{kind: spatial}]", UNET),
}
"""Name → encodings that it is trained on, what it is conditioned on, and its model."""

SETTINGS = (
    "execute.executor=local",
    "train.data.caption_dropout=0.1",
    "train.data.plan={token_budget: 1280, packs_per_step: 1}",
    "train.objective={timesteps: uniform}",
    "train.optimizer={lr: 0.001, warmup_steps: 50, schedule: cosine}",
    "train.ema.decay=0.995",
    "train.evaluate.captions.every=0",
    "train.evaluate.held_out.every=500",
    "train.checkpoint.every=100",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--train-only", action="store_true")
    arguments = parser.parse_args()
    print(described())
    dataset, names = make_dataset(arguments.out)
    for stage in arguments.stages:
        train_stage(dataset, arguments.out / stage, stage, names, arguments.steps)


def make_dataset(out: Path) -> tuple[str, dict[str, str]]:
    """The dataset, and the fingerprint of each of its encodings."""
    dataset = str(out / "dataset")
    make(dataset, num_train=400, num_held_out=60)
    names = {}
    for name, settings in ENCODINGS.items():
        summary = encode(dataset, load_config(None, ["execute.executor=local", "encode.windows=middle", *settings]))
        names[name] = summary.latents
    return dataset, names


def train_stage(dataset: str, out: Path, stage: str, names: Mapping[str, str], steps: int) -> None:
    encodings, conditioning, model = STAGES[stage]
    latents = ", ".join(names[name] for name in encodings)
    data = (f"train.data.latents=[{latents}]", f"train.data.conditioning={conditioning}", f"train.model={model}")
    train_here(dataset, str(out), load_config(None, [*SETTINGS, *data, f"train.steps={steps}"]))


if __name__ == "__main__":
    main()
