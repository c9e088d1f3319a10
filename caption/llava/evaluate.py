"""Compares the embedded captioner with simpler ones on the demo's excerpts, which it never saw.

    python -m caption.llava.evaluate --work FOLDER [--video bbb.mp4]

`FOLDER` is the recipe's output: its `features.pt` holds the training frames. Prints one table of captions and one of
figures, in Markdown.
"""

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path

import numpy as np
import torch

from caption.backends.base import CaptionRequest
from caption.backends.embedded import EmbeddedCaptioner, EmbeddedConfig
from caption.backends.transformers_vlm import TransformersVlm
from caption.config import CaptionConfig
from caption.llava.corpus import SUBJECTS, load_shots
from caption.prompts import PLAIN_V1
from curate.encoders import weights
from curate.encoders.efficientnet_lite import load_efficientnet_lite0, normalize
from curate.encoders.text import TextEncoder
from curate.encoders.text_config import TextEncoderConfig
from curate.media.decode import middles
from curate.media.frames import iter_frames

CONSTANT = "A big gray rabbit."
"""The best constant caption: hardly a training caption occurs twice, but this subject is in most shots."""

CAPTIONERS = ("captioner", "nearest training frame", "most frequent", "constant", "template")


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """A shot of an excerpt: its frames (T, H, W, 3) uint8, and what was written of it by hand."""

    shot: int
    frames: np.ndarray
    main_subject: str
    accept: tuple[str, ...]
    reference: str

    def names_subject(self, caption: str) -> bool:
        return any(re.search(rf"\b{re.escape(word)}\b", caption, re.IGNORECASE) for word in self.accept)


def load_held_out(video: Path, num_frames: int) -> list[HeldOut]:
    """The shots of the excerpts, each with frames at the middles of equal parts."""
    rows = [json.loads(line) for line in SUBJECTS.read_text().splitlines()]
    clips = read_images(
        video, [row["start_frame"] + middles(row["end_frame"] - row["start_frame"], num_frames) for row in rows]
    )
    return [
        HeldOut(
            shot=row["shot"],
            frames=frames,
            main_subject=row["main_subject"],
            accept=tuple(row["accept"]),
            reference=row["reference_short"],
        )
        for row, frames in zip(rows, clips, strict=True)
    ]


def read_images(video: Path, numbers: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Of each list of frame numbers (increasing, as the lists are) those frames (T, H, W, 3) uint8, in one pass."""
    clips = [of_clip.tolist() for of_clip in numbers]
    images: dict[int, np.ndarray] = {}
    for number, frame in enumerate(iter_frames(str(video), short_side_px=720)):
        if any(number in of_clip for of_clip in clips):
            images[number] = frame.rgb
        while clips and clips[0][-1] <= number:
            yield np.stack([images[index] for index in clips.pop(0)])
            images = {index: image for index, image in images.items() if any(index in c for c in clips)}
        if not clips:
            return


def top_classes(shots: Sequence[HeldOut]) -> list[str]:
    """ "A <class>." by the vision tower's own classifier, its probabilities averaged over a shot's frames."""
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    model = load_efficientnet_lite0(weights.resolve("efficientnet-lite0"))
    with torch.inference_mode():
        best = [int(model(normalize(shot.frames)).softmax(1).mean(0).argmax()) for shot in shots]
    return [f"A {IMAGENET_CLASSNAMES[index]}." for index in best]


def nearest_captions(shots: Sequence[HeldOut], features: Path, vlm: TransformersVlm) -> list[str]:
    """Caption of the training frame whose global vision token is nearest (cosine) to the mean of a shot's."""
    tower, image_processor = vlm.model.model.vision_tower, vlm.processor.image_processor
    stored = torch.load(features, weights_only=True)["video"]
    captions = [shot.short[0] for shot, frames in zip(load_shots(), stored, strict=True) for _ in frames[0]]
    train = torch.cat([tower.standardize(frames[0].float())[:, 0] for frames in stored])  # (frames, 1280)
    result = []
    for shot in shots:
        with torch.inference_mode():
            pixels = image_processor(list(shot.frames), return_tensors="pt")["pixel_values"]
            query = tower.standardize(tower.pool(pixels))[:, 0].mean(0)
        result.append(captions[int(torch.nn.functional.cosine_similarity(train, query[None]).argmax())])
    return result


def grounding(shots: Sequence[HeldOut], vlm: TransformersVlm) -> tuple[float, float]:
    """Loss of the reference with its own frames, and with those of the next shot that has another main subject."""
    true, shuffled = [], []
    for row, shot in enumerate(shots):
        others = [*shots[row + 1 :], *shots[:row]]
        other = next(other for other in others if other.main_subject != shot.main_subject)
        requests = [
            CaptionRequest(frames=frames, prompt=PLAIN_V1.of("short").text(), max_tokens=1)
            for frames in (shot.frames, other.frames)
        ]
        losses = vlm.losses(requests, [shot.reference] * 2)
        true.append(losses[0])
        shuffled.append(losses[1])
    return float(np.mean(true)), float(np.mean(shuffled))


def sign_test(wins: int, losses: int) -> float:
    """Two-sided probability of a split at least this uneven if both sides were equally likely to win."""
    num = wins + losses
    tail = sum(comb(num, k) for k in range(max(wins, losses), num + 1)) / 2**num
    return min(1.0, 2 * tail)


def report(shots: Sequence[HeldOut], said: dict[str, list[str]], dense: Sequence[str]) -> str:
    """The tables of captions and of figures."""
    text = TextEncoder(TextEncoderConfig())
    text.setup()
    reference = text.embed([shot.reference for shot in shots])
    cosine = {name: (text.embed(captions) * reference).sum(1) for name, captions in said.items()}
    named = {
        name: [shot.names_subject(c) for shot, c in zip(shots, captions, strict=True)]
        for name, captions in said.items()
    }
    lines = [
        "| shot | main subject | short caption | nearest training frame | template | dense caption |",
        "|-" * 6 + "|",
    ]
    for row, shot in enumerate(shots):
        mark = "" if named["captioner"][row] else " ✗"
        lines.append(
            f"| {shot.shot} | {shot.main_subject} | {said['captioner'][row]}{mark} "
            f"| {said['nearest training frame'][row]} | {said['template'][row]} | {dense[row]} |"
        )
    is_rabbit = [shot.main_subject == "rabbit" for shot in shots]
    lines += [
        "",
        "| | subject named | rabbit shots | other shots | cosine to reference | captioner wins / loses | p |",
        "|-" * 7 + "|",
    ]
    for name in CAPTIONERS:
        hits = named[name]
        of_rabbits = sum(hit for hit, rabbit in zip(hits, is_rabbit, strict=True) if rabbit)
        wins = int((cosine["captioner"] > cosine[name] + 1e-6).sum())
        losses = int((cosine["captioner"] < cosine[name] - 1e-6).sum())
        paired = "| | |" if name == "captioner" else f"| {wins} / {losses} | {sign_test(wins, losses):.4f} |"
        lines.append(
            f"| {name} | {sum(hits)} of {len(shots)} | {of_rabbits} of {sum(is_rabbit)} "
            f"| {sum(hits) - of_rabbits} of {len(shots) - sum(is_rabbit)} | {cosine[name].mean():.3f} {paired}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, required=True, help="folder that train-captioner wrote")
    parser.add_argument("--video", type=Path, help="Big Buck Bunny; none: the asset bbb-film")
    arguments = parser.parse_args()
    config = CaptionConfig()
    shots = load_held_out(arguments.video or weights.resolve("bbb-film"), config.frames.num_frames)
    captioner = EmbeddedCaptioner(EmbeddedConfig())
    captioner.setup()
    vlm = captioner.vlm
    written: dict[str, list[str]] = {}
    for kind in PLAIN_V1.levels:
        limit = config.max_tokens(kind)
        requests = [CaptionRequest(frames=s.frames, prompt=PLAIN_V1.of(kind).text(), max_tokens=limit) for s in shots]
        batches = [requests[start : start + 8] for start in range(0, len(requests), 8)]
        written[kind] = [getattr(result, "text", "") for batch in batches for result in vlm.caption(batch)]
    common = Counter(shot.short[0] for shot in load_shots()).most_common(1)[0][0]
    said = {
        "captioner": written["short"],
        "nearest training frame": nearest_captions(shots, arguments.work / "features.pt", vlm),
        "most frequent": [common] * len(shots),
        "constant": [CONSTANT] * len(shots),
        "template": top_classes(shots),
    }
    print(report(shots, said, written["dense"]), flush=True)
    true, shuffled = grounding(shots, vlm)
    print(f"\nGrounding: loss of the reference {true:.3f} with its own frames, {shuffled:.3f} with another shot's.")


if __name__ == "__main__":
    main()
