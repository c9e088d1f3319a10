"""What a U-Net's step costs on packs of unlike samples, beside the same network as trainers of fixed shapes write it.

    python -m benchmarks.unet [--repeats 5] [--budget 12288] [--sides 20 40] [--width 64]

A step is forward and backward of a small U-Net (three levels, attention within frames below the first, captions), on
one thread, timed by its CPU seconds. Ways run in turn, repeat by repeat; figures are medians, ratios are those of one
run. Sides are those of clips of 160 to 320 pixels in a latent space of 8 pixels. Much smaller pictures (`--budget 4096
--sides 9 22`) have too few patches for products to run at full speed.

packed       one pack of unlike samples: every height and width is another
one shape    one pack of as many tokens, all samples of one shape
plain        the samples of one shape, by torch's own layers on (B, C, T, H, W) (tests/support/plain_unet.py)
padded       the unlike samples by the same layers, each padded to the largest of every side

Exit code 1 where the packed step is below 0.8 of `plain`, per token.
"""

import argparse
from collections.abc import Callable, Sequence

import numpy as np
import torch

from benchmarks.machine import described
from tests.support.plain_unet import plain_forward
from tests.support.timing import median_seconds
from train.model.unet.config import UNetConfig
from train.model.unet.network import UNet
from train.packing.batch import Sample, pack
from train.packing.shapes import Patch

CHANNELS, TEXT_DIM, TEXT_TOKENS = 16, 64, 16
NUM_FRAMES = 4
PROMISE = 0.8
TEMPORAL = ("attention", "convolution", "none")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--budget", type=int, default=12288, help="tokens of a step")
    parser.add_argument("--sides", type=int, nargs=2, default=[20, 40], help="least and largest side, in patches")
    parser.add_argument("--width", type=int, default=64, help="channels at the first level")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(described())
    least, most = arguments.sides
    mixed = unlike(arguments.budget, least, most)
    shape: Patch = (NUM_FRAMES, (least + most) // 2, (least + most) // 2)
    equal = [shape] * max(1, arguments.budget // int(np.prod(shape)))
    print(f"{len(mixed)} unlike samples, {total(mixed)} tokens; {len(equal)} of {shape}, {total(equal)} tokens")
    print(f"{'temporal':14}{'way':>12}{'tokens / s':>12}{'x plain':>9}")
    missed = False
    for temporal in TEMPORAL:
        rates = measure(temporal, arguments.width, mixed, equal, arguments.repeats)
        for way, rate in rates.items():
            print(f"{temporal:14}{way:>12}{rate:12,.0f}{rate / rates['plain']:9.2f}")
        missed |= rates["packed"] < PROMISE * rates["plain"]
    raise SystemExit(int(missed))


def unlike(budget: int, least: int, most: int) -> list[Patch]:
    """Grids of images and videos of other sides each, from `least` to `most`, up to `budget` patches."""
    rng, grids = np.random.default_rng(0), list[Patch]()
    while True:
        t = 1 if rng.random() < 0.35 else int(rng.integers(2, 6))
        h, w = (int(side) for side in rng.integers(least, most + 1, size=2))
        if total([*grids, (t, h, w)]) > budget:
            return grids
        grids.append((t, h, w))


def total(grids: Sequence[Patch]) -> int:
    return sum(int(np.prod(grid)) for grid in grids)


def measure(
    temporal: str, width: int, mixed: Sequence[Patch], equal: Sequence[Patch], repeats: int
) -> dict[str, float]:
    """Tokens of samples per second, by way."""
    torch.manual_seed(0)
    shape = {"multipliers": (1, 2, 3), "depths": (1, 1, 1), "attention_levels": (1, 2), "head_width": 32}
    config = UNetConfig.model_validate(
        shape | {"temporal": temporal, "width": width, "num_groups": 16, "condition_width": 4 * width}
    )
    model = UNet(config, channels=CHANNELS, text_dim=TEXT_DIM)
    for parameter in model.parameters():  # at their start many are zero
        torch.nn.init.normal_(parameter, std=0.02)
    t, h, w = np.array(mixed).max(0).tolist()
    ways: dict[str, Callable[[], None]] = {
        "packed": packed(model, mixed),
        "one shape": packed(model, equal),
        "plain": plain(model, equal),
        "padded": plain(model, [(t, h, w)] * len(mixed)),
    }
    seconds = median_seconds(ways, torch.device("cpu"), repeats)
    real = {"packed": total(mixed), "one shape": total(equal), "plain": total(equal), "padded": total(mixed)}
    return {way: real[way] / seconds[way] for way in ways}


def samples_of(grids: Sequence[Patch]) -> list[Sample]:
    return [
        Sample(
            clip_id=str(number), latent=(latent := torch.randn(CHANNELS, *grid)), noise=latent, timestep=0.5,
            fps=8.0, text=torch.randn(TEXT_TOKENS, TEXT_DIM),
        )
        for number, grid in enumerate(grids)
    ]  # fmt: skip


def packed(model: UNet, grids: Sequence[Patch]) -> Callable[[], None]:
    batch = model.config.prepare(pack(samples_of(grids), model.config.patch, TEXT_DIM))

    def step() -> None:
        model(batch.tokens, batch.timesteps, batch).square().mean().backward()
        model.zero_grad()

    return step


def plain(model: UNet, grids: Sequence[Patch]) -> Callable[[], None]:
    samples = samples_of(grids)
    batch, x = pack(samples, model.config.patch, TEXT_DIM), torch.stack([sample.latent for sample in samples])

    def step() -> None:
        plain_forward(model, x, batch).square().mean().backward()
        model.zero_grad()

    return step


if __name__ == "__main__":
    main()
