"""The embedded generator on twelve prompts: what is seen, whether it fits the prompt, and the nearest training clips.

    python -m benchmarks.embedded_generator RUN DATASET OUT [--guidance 2] [--steps 50] [--seed 0]

RUN is trained on DATASET, as docs/models/reelpack_dit.md says. OUT/blind.png shows the samples numbered, in an order
that says nothing, for a person who names what is seen before reading OUT/key.json. OUT/sheet.png shows each prompt's
sample above the nearest clip that the run was trained on.

The match of a sample with a prompt is what the embedded captioner says of it: log-likelihood of the prompt as its
caption, less the mean over the samples, which is the prompt's own. The captioner knows these subjects, which
EfficientNet and ConSE do not; it learned from the same stretches of the film, so it is no judge of anything else. p is
the share of orders of the prompts that match as well as their own.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from benchmarks.machine import described
from caption.finetune.base import Sample
from caption.finetune.config import CaptionerTrainConfig
from caption.finetune.load import load_learner, resolved_model
from curate.encoders import torchvision_cpu
from curate.media.decode import decode_clip
from pipelines.drivers.sample import sample_to_files
from train.evaluate.quality.clips import View, read_clips
from train.evaluate.quality.nearest import nearest
from train.evaluate.video_features.config import FramesConfig
from train.sampling.config import SampleConfig

PROMPTS = (
    "A big gray rabbit stands in a meadow.",
    "A big gray rabbit smiles happily.",
    "A big gray rabbit looks at a pink butterfly.",
    "A big gray rabbit sleeps in a dark burrow.",
    "A flying squirrel glides in the blue sky.",
    "A flying squirrel stands on a branch.",
    "A red squirrel looks up with a dull face.",
    "A chinchilla stands in a forest with a nut.",
    "A pink butterfly flies over a green meadow.",
    "A bird sings on a branch.",
    "A red apple falls from a tree.",
    "A green meadow lies beside trees.",
)
VIEW = View(width=128, height=80, num_frames=17, fps=12)
QUESTION = "Describe this video briefly."
SHOWN = (0, 8, 16)
"""Frames of a sample in a picture."""
NUM_ORDERS = 10_000


def log_likelihoods(videos: list[np.ndarray], prompts: tuple[str, ...]) -> np.ndarray:
    """(videos, prompts) float64: of each prompt as the caption of each video, nats per token."""
    learner = load_learner(resolved_model(CaptionerTrainConfig(dtype="float32", device="cpu")))
    rows = []
    for frames in videos:
        shown = frames[np.linspace(0, len(frames) - 1, 4).round().astype(int)]
        with torch.no_grad():
            losses, owner = learner.losses([Sample(images=shown, prompt=QUESTION, answer=text) for text in prompts])
        rows.append([-float(losses[owner == number].mean()) for number in range(len(prompts))])
    return np.array(rows)


def permutation_test(scores: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Mean of the diagonal of (N, N) scores, mean under other orders, and p."""
    rng, n = np.random.default_rng(seed), len(scores)
    own = np.trace(scores) / n
    others = np.array([scores[np.arange(n), rng.permutation(n)].mean() for _ in range(NUM_ORDERS)])
    return float(own), float(others.mean()), float((1 + (others >= own - 1e-12).sum()) / (1 + NUM_ORDERS))


def row_of(frames: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """`SHOWN` frames side by side, each `size` (width, height) px."""
    width, height = size
    row = Image.new("RGB", (width * len(SHOWN), height))
    for place, number in enumerate(SHOWN):
        frame = Image.fromarray(frames[min(number, len(frames) - 1)]).resize(size)
        row.paste(frame, (width * place, 0))
    return row


def sheet(rows: list[tuple[str, list[np.ndarray]]], scale: int = 2) -> Image.Image:
    """A title per row, and its videos below one another."""
    width, height = VIEW.width * scale, VIEW.height * scale
    rows_px = [24 + height * len(videos) for _, videos in rows]
    page = Image.new("RGB", (width * len(SHOWN), sum(rows_px)), "white")
    draw, top = ImageDraw.Draw(page), 0
    for (title, videos), row_px in zip(rows, rows_px, strict=True):
        draw.text((4, top + 2), title, fill="black", font=ImageFont.load_default(size=16))
        for place, frames in enumerate(videos):
            page.paste(row_of(frames, (width, height)), (0, top + 24 + height * place))
        top += row_px
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run")
    parser.add_argument("dataset")
    parser.add_argument("out", type=Path)
    parser.add_argument("--guidance", type=float, default=2)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torchvision_cpu.repair()
    arguments.out.mkdir(parents=True, exist_ok=True)
    settings = {"guidance": arguments.guidance, "num_steps": arguments.steps, "seed": arguments.seed}
    files = [arguments.out / f"{number:02d}.mp4" for number in range(len(PROMPTS))]
    sample_to_files(arguments.run, PROMPTS, files, "128x80", VIEW.num_frames, SampleConfig.model_validate(settings))
    samples = [decode_clip(path.read_bytes()).rgb for path in files]

    order = np.random.default_rng(arguments.seed).permutation(len(PROMPTS))
    sheet([(str(place), [samples[number]]) for place, number in enumerate(order)]).save(arguments.out / "blind.png")
    key = {place: PROMPTS[number] for place, number in enumerate(order)}
    (arguments.out / "key.json").write_text(json.dumps(key, indent=2) + "\n")

    clips = [clip for clip in read_clips([arguments.dataset], "train") if clip.fits(VIEW)]
    known = [clip.frames(VIEW) for clip in clips]
    see = FramesConfig().build(torch.device("cpu"))
    features = [
        torch.cat([see(torch.from_numpy(video[None, ::2])) for video in videos]) for videos in (samples, known)
    ]
    found = nearest(*features)
    beside = [(text, [samples[i], known[found.clip[i]]]) for i, text in enumerate(PROMPTS)]
    sheet(beside).save(arguments.out / "sheet.png")

    likelihoods = log_likelihoods(samples, PROMPTS)
    scores = likelihoods - likelihoods.mean(0)
    own, others, p = permutation_test(scores)
    best = int((scores.argmax(0) == np.arange(len(PROMPTS))).sum())
    print(described())
    for number, text in enumerate(PROMPTS):
        distance, rank = found.distance[number], 1 + int((scores[:, number] > scores[number, number]).sum())
        print(f"{text:50} match {scores[number, number]:+.2f} (rank {rank}), nearest clip at {distance:.2f}")
    print(f"match with the own prompt {own:+.3f}, with others {others:+.3f} nats per token; p = {p:.4f}")
    print(f"prompts whose own sample matches best: {best} of {len(PROMPTS)}")


if __name__ == "__main__":
    main()
