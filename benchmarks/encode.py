"""Encoding beside an earlier commit, beside the bare autoencoder, and its peak memory.

    python -m benchmarks.encode [--baseline CHECKOUT] [--only speed memory] [--max-area-px 65536] [--rounds 3]

The clips are excerpts of the demo's films: images, short and long clips, at 720p. `CHECKOUT` is a worktree of the
commit that is compared (`git worktree add CHECKOUT 9b708f3`), with its weights built; both encode with the weights of
this one. Both run in processes of their own, one thread each, turn by turn; ratios are of the least CPU times, which
other processes disturb less than wall time. Peak memory is that of a process which encodes one synthetic clip.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import described
from train.autoencoder.own import EMBEDDED_WEIGHTS

MEDIA = Path(__file__).parent.parent / "pipelines" / "demo" / "media"
NUM_IMAGES, NUM_SHORT, NUM_LONG = 12, 9, 2
SHORT, LONG = 24, 129
"""Frames."""
PROMISED_SPEED, PROMISED_OF_BARE, PROMISED_DIFFERENCE = 2.0, 0.95, 1e-3
LENGTHS = (17, 65, 257)
LENGTH_PX = 256
SIDES_PX = (256, 512, 1024)
TILE_PX = 256
WORK = """
import json, pickle, sys, time

import numpy as np, torch
torch.set_num_threads(1)
root, weights, max_area_px, out = sys.argv[1:]
from train.autoencoder import encode
try:
    from train.autoencoder.clip import EncodeItem
    from train.autoencoder.config import EncodeConfig
except ImportError:
    from train.autoencoder.encode import EncodeConfig, EncodeItem
items = [EncodeItem(**row) for row in json.load(open(root + "/items.json"))]
autoencoder = {"kind": "reelpack_kl", "path": weights, "device": "cpu"}
config = EncodeConfig.model_validate({"autoencoder": autoencoder, "max_area_px": int(max_area_px)})
stage = encode.EncodeStage(config, root)
prefetch = getattr(stage, "prefetch", lambda items: None)
stage.setup()
stage.process(items[:1])
wall, cpu, own = time.perf_counter(), time.process_time(), time.thread_time()
outcomes = []
for item, following in zip(items, [*items[1:], None]):
    prefetch([item] if item is items[0] else [])
    prefetch([following] if following else [])
    outcomes += stage.process([item])
cpu, wall, own = time.process_time() - cpu, time.perf_counter() - wall, time.thread_time() - own
windows = [one[0] if isinstance(one, tuple) else one for one in outcomes]
with open(out, "wb") as file:
    pickle.dump([np.asarray(window.latent, np.float32) for window in windows], file)
num_frames = sum(window.num_frames for window in windows)
print(json.dumps({"cpu_s": cpu, "wall_s": wall, "own_s": own, "num_frames": num_frames}))
"""
"""Understood by both commits."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", type=Path, help="checkout of the commit to compare with")
    parser.add_argument("--only", nargs="+", choices=("speed", "memory"), default=["speed", "memory"])
    parser.add_argument("--max-area-px", type=int, default=256 * 256, help="encode.max_area_px")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", nargs="+", help=argparse.SUPPRESS)  # what a process of its own does
    arguments = parser.parse_args()
    if arguments.work:
        print(json.dumps(WORKS[arguments.work[0]](*arguments.work[1:])))
        return
    print(described())
    with tempfile.TemporaryDirectory() as folder:
        if "speed" in arguments.only:
            write_clips(Path(folder))
            show_speed(folder, arguments.baseline, arguments.max_area_px, arguments.rounds)
    if "memory" in arguments.only:
        show_memory()


def show_speed(folder: str, baseline: Path | None, max_area_px: int, rounds: int) -> None:
    here = Path(__file__).parent.parent
    checkouts = {"this commit": here, **({"baseline": baseline} if baseline else {})}
    weights = shutil.copytree(EMBEDDED_WEIGHTS, f"{folder}/weights")
    shutil.copy(f"{weights}/model.safetensors", f"{weights}/reelpack_kl.safetensors")  # their earlier name
    given = (folder, weights, str(max_area_px))
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in (*checkouts, "bare")}
    for _ in range(rounds):
        for name, checkout in checkouts.items():
            runs[name].append(alone([sys.executable, "-c", WORK, *given, f"{folder}/{name}.pkl"], checkout))
        runs["bare"].append(in_this_module("bare", *given))
    cpu_s, wall_s = ({name: min(one[key] for one in of) for name, of in runs.items()} for key in ("cpu_s", "wall_s"))
    for name, seconds in cpu_s.items():
        num_frames = runs[name][0]["num_frames"]
        print(f"  {name}: {num_frames} frames, {num_frames / seconds:.1f} per s of CPU, {seconds:.2f} s")
    share = cpu_s["bare"] / cpu_s["this commit"]
    own_s = min(one["own_s"] for one in runs["this commit"])
    wall_share = wall_s["bare"] / wall_s["this commit"]
    print(f"  bare model ÷ stage: CPU {share:.2f}, wall {wall_share:.2f}, CPU of the thread that encodes, as "
          f"where decoding has a core of its own: {cpu_s['bare'] / own_s:.2f} (promised "
          f"{PROMISED_OF_BARE})")  # fmt: skip
    if baseline:
        print(f"  stage ÷ baseline: CPU {cpu_s['baseline'] / cpu_s['this commit']:.2f} x, wall "
              f"{wall_s['baseline'] / wall_s['this commit']:.2f} x (promised {PROMISED_SPEED}); greatest difference "
              f"{difference(folder):.1e} (promised {PROMISED_DIFFERENCE})")  # fmt: skip


def show_memory() -> None:
    for num_frames in LENGTHS:
        show_peak(num_frames, LENGTH_PX, 0)
    for side in SIDES_PX:
        for tile in (0, TILE_PX):
            show_peak(LENGTHS[0], side, tile)


def show_peak(num_frames: int, side: int, tile: int) -> None:
    found = in_this_module("memory", str(num_frames), str(side), str(tile))
    of_clip, how = found["peak_mib"] - found["before_mib"], f"tiles of {tile} px" if tile else "whole"
    print(f"  {num_frames} frames of {side} px, {how}: peak {found['peak_mib']:.0f} MiB, {of_clip:.0f} of the clip")


def write_clips(folder: Path) -> None:
    """A shard of images and clips, and its index."""
    import av
    import cv2

    from curate.media.encode import encode_mp4
    from curate.shards.tar import write_tar

    samples: list[tuple[str, dict[str, bytes]]] = []
    with av.open(str(MEDIA / "bbb_a.mp4")) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame, _ in zip(film.decode(video=0), range(320), strict=False)]
    for number in range(NUM_IMAGES):
        png = cv2.imencode(".png", frames[number * 20][..., ::-1])[1].tobytes()
        samples.append((f"image{number:02}", {"png": png}))
    for number in range(NUM_SHORT):
        samples.append((f"short{number:02}", {"mp4": encode_mp4(np.stack(frames[number * 30 :][:SHORT]), 24)}))
    for number in range(NUM_LONG):
        samples.append((f"long{number:02}", {"mp4": encode_mp4(np.stack(frames[number * 150 :][:LONG]), 24)}))
    rows = [
        {"clip_id": one.key, "shard": one.shard, "offset": one.offset, "size": one.size,
         "kind": "image" if one.ext == "png" else "video"}
        for one in write_tar(str(folder / "train-000000.tar"), samples)
    ]  # fmt: skip
    (folder / "items.json").write_text(json.dumps(rows))


def bare(root: str, weights: str, max_area_px: str) -> dict[str, float]:
    """The autoencoder alone, on the tensors that the stage gives it."""
    import torch

    from curate.media.readers.config import MediaConfig
    from curate.shards.tar import TarReader
    from train.autoencoder.clip import ClipOpener, EncodeItem, OpenedClip
    from train.autoencoder.config import EncodeConfig, ReelpackConfig
    from train.autoencoder.pixels import video_parts

    torch.set_num_threads(1)
    config = EncodeConfig(autoencoder=ReelpackConfig(path=weights, device="cpu"), max_area_px=int(max_area_px))
    autoencoder = config.autoencoder.build()
    strides = {"temporal_stride": autoencoder.temporal_stride, "spatial_stride": autoencoder.spatial_stride}
    opener = ClipOpener(config, TarReader(root), MediaConfig().build(), **strides)
    cpu_s = wall_s = 0.0
    num_frames = 0
    for row in json.loads(Path(root, "items.json").read_text()):
        opened = opener.open(EncodeItem(**row))
        assert isinstance(opened, OpenedClip), opened
        for window, frames in opened.in_windows():
            parts = list(video_parts(frames, window.num_frames, autoencoder))
            if not num_frames:
                autoencoder.encode_parts(parts)
            cpu, wall = time.process_time(), time.perf_counter()
            autoencoder.encode_parts(parts)
            cpu_s, wall_s = cpu_s + time.process_time() - cpu, wall_s + time.perf_counter() - wall
            num_frames += window.num_frames
    return {"cpu_s": cpu_s, "wall_s": wall_s, "num_frames": num_frames}


def memory(num_frames: str, side: str, tile_px: str) -> dict[str, float]:
    """Peaks of this process in MiB: when all is loaded, and after a clip of equal frames is encoded."""
    import torch

    from train.autoencoder.config import ReelpackConfig
    from train.autoencoder.pixels import video_parts

    torch.set_num_threads(1)
    autoencoder = ReelpackConfig(device="cpu", tile_px=int(tile_px) or None).build()

    def clip(size: int, count: int) -> Iterator[np.ndarray]:
        return (np.full((size, size, 3), number % 256, np.uint8) for number in range(count))

    autoencoder.encode_parts(video_parts(clip(64, 1), 1, autoencoder))
    before = peak_mib()
    autoencoder.encode_parts(video_parts(clip(int(side), int(num_frames)), int(num_frames), autoencoder))
    return {"before_mib": before, "peak_mib": peak_mib()}


WORKS: dict[str, Callable[..., dict[str, float]]] = {"bare": bare, "memory": memory}


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_this_module(*work: str) -> dict[str, Any]:
    return alone([sys.executable, "-m", "benchmarks.encode", "--work", *work], Path(__file__).parent.parent)


def alone(command: list[str], checkout: Path) -> dict[str, Any]:
    """What a process says, run in a checkout with one thread."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)[:200]} failed:\n{done.stderr}")
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def difference(folder: str) -> float:
    """The greatest between stored latents of both commits, over the greater of 1 and the value: 1e-3 is the last bit
    of float16."""
    import pickle

    one, other = (pickle.loads(Path(folder, f"{name}.pkl").read_bytes()) for name in ("this commit", "baseline"))
    return max(float((np.abs(a - b) / np.maximum(1, np.abs(b))).max()) for a, b in zip(one, other, strict=True))


if __name__ == "__main__":
    main()
