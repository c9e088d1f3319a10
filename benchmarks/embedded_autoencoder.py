"""Embedded autoencoders on footage that they were not trained on: reconstructions, and the time to decode.

    python -m benchmarks.embedded_autoencoder [FOLDER ...] [--rounds 5]

The clips are the shots of the demo's excerpts, at 12 frames per second, 128 x 80 px, up to 33 frames each; images are
the first, the middle and the last frame of each. FOLDER: weights that `train-autoencoder` wrote, or those of an
earlier commit; the embedded ones come first. *DCT* keeps as many coefficients per block as latents have channels,
those with most energy on these clips; *resize* shrinks to as many values. Decoding is timed on one thread, in turns; a
ratio is that of the least CPU times.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.machine import described
from curate.media.decode import clip_frames, clip_times
from curate.scan import ScanConfig
from curate.shot_list import find_shots
from train.autoencoder.config import ReelpackConfig
from train.autoencoder.evaluate import BLOCK, Quality, dct_kept, evaluate, resized, round_trip
from train.autoencoder.own import EMBEDDED_WEIGHTS
from train.autoencoder.pixels import to_video

MEDIA = Path(__file__).parents[1] / "pipelines" / "demo" / "media"
EXCERPTS = ("bbb_a.mp4", "bbb_b.mp4")
FPS, SIZE, MAX_FRAMES = 12.0, (80, 128), 33
EMBEDDED_CHANNELS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(described())
    clips = [clip for name in EXCERPTS for clip in shots(MEDIA / name)]
    images = [clip[[number]] for clip in clips for number in (0, len(clip) // 2, len(clip) - 1)]
    print(f"{len(clips)} shots, {sum(map(len, clips))} frames; {len(images)} images")
    folders = {"embedded": EMBEDDED_WEIGHTS, **{str(folder): folder for folder in arguments.folders}}
    models = {name: ReelpackConfig(path=str(folder), device="cpu").build() for name, folder in folders.items()}
    methods: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        **{name: round_trip(model) for name, model in models.items()},
        "DCT": dct_kept(EMBEDDED_CHANNELS, clips),
        "resize": resized(EMBEDDED_CHANNELS),
    }
    for name, method in methods.items():
        print(f"{name:30} video {row(evaluate(clips, method))}   images {row(evaluate(images, method))}", flush=True)
    latents = {name: model.encode(to_video(longest(clips))) for name, model in models.items()}
    for name, model in models.items():
        values = torch.cat([model.encode(to_video(clip)).flatten(1) for clip in clips], dim=1)
        spread = values.std(dim=1)
        print(
            f"{name:30} latents: mean {values.mean():.3f}, deviation {values.std():.3f}, "
            f"of channels {spread.min():.2f} to {spread.max():.2f}"
        )
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(arguments.rounds):
        for name, model in models.items():
            start = time.process_time()
            model.decode(latents[name])
            seconds[name].append(time.process_time() - start)
    for name, taken in seconds.items():
        print(f"{name:30} decode {min(taken) / min(seconds['embedded']):.2f} x of the embedded one's time")


def shots(path: Path) -> list[np.ndarray]:
    """(T, 80, 128, 3) uint8 of each shot."""
    times = clip_times(str(path))
    numbers = times.at(FPS)
    clips = []
    for shot in find_shots(str(path), path.name, ScanConfig()).clips:
        within = [n for n in numbers if shot.first <= n < shot.end][:MAX_FRAMES]
        within = within[: len(within) - (len(within) - 1) % BLOCK[0]]  # 1 + 4k frames
        if within:
            clips.append(np.stack(list(clip_frames(str(path), times, np.array(within), SIZE))))
    return clips


def longest(clips: Sequence[np.ndarray]) -> np.ndarray:
    return max(clips, key=len)


def row(quality: Quality) -> str:
    return f"{quality.psnr_db:.2f} dB ({quality.worst_psnr_db:.2f}), SSIM {quality.ssim:.4f}"


if __name__ == "__main__":
    main()
