"""What a user asks for, one video at a time, and the command that asks for it again."""

import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.sampling.config import SampleConfig
from train.sampling.guidance.constant import ConstantGuidance

OF_COMMAND = frozenset({"seed", "seeds", "negative", "step", "device"})
"""Settings of sampling that are a video's own, or have options of the command."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One video, or with one frame an image.

    Attributes:
        prompt: "": none.
        seed: Of its noise.
        label: A class of the run, by name or number.
        negative: None: `sample.negative`.
        start: A picture that it begins with, or a clip that it continues.
    """

    prompt: str
    width: int
    height: int
    num_frames: int
    seed: int
    label: str | None = None
    negative: str | None = None
    start: Path | None = None

    @property
    def title(self) -> str:
        """For people."""
        return self.prompt or (f"class {self.label}" if self.label else "(no prompt)")

    def settings(self, config: SampleConfig) -> dict[str, Any]:
        """For the .json, besides prompt and seed."""
        return {
            **config.model_dump(mode="json", exclude={"step", "seed", "seeds", "device", "negative"}),
            "negative": config.negative if self.negative is None else self.negative,
            "label": self.label,
            "size": f"{self.width}x{self.height}",
            "num_frames": self.num_frames,
            "start": None if self.start is None else str(self.start),
            "start_sha256": None if self.start is None else hashlib.sha256(self.start.read_bytes()).hexdigest(),
        }


def size_of(text: str, option: str) -> tuple[int, int]:
    """Width and height, px, of WIDTHxHEIGHT.

    Raises:
        ValueError: it is none.
    """
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text)
    if not match:
        raise ValueError(f"{option} {text}: expected WIDTHxHEIGHT in pixels, such as 128x80")
    return int(match[1]), int(match[2])


def command_of(run: str, facts: Mapping[str, Any]) -> str:
    """The command that makes a video again.

    Args:
        run: As the command line names it.
        facts: Of the video's .json.
    """
    parts = ["reelpack", "sample", run]
    for option, name in (("prompt", "prompt"), ("negative", "negative"), ("label", "label"), ("size", "size")):
        if facts.get(name):
            parts += [f"--{option}", str(facts[name])]
    parts += ["--frames", str(facts["num_frames"])]
    if facts.get("start"):
        parts += ["--start", str(facts["start"])]
    parts += ["--step", str(facts["step"]), "--set", f"sample.seed={facts['seed']}"]
    for name, value in SampleConfig().model_dump(mode="json").items():
        if name in facts and name not in OF_COMMAND and facts[name] != value:
            parts += ["--set", f"sample.{name}={json.dumps(_short(facts[name]), ensure_ascii=False)}"]
    parts += ["--out", f"sample{'.mp4' if facts['num_frames'] > 1 else '.png'}"]
    return shlex.join(parts)


def _short(value: Any) -> Any:
    """As short as settings take it: a guidance rule as its weight, a sampler as its name."""
    if (
        isinstance(value, list)
        and len(value) == 1
        and value[0] == ConstantGuidance().model_dump(mode="json") | {"weight": value[0].get("weight")}
    ):
        return value[0]["weight"]
    return value["kind"] if isinstance(value, dict) and set(value) == {"kind"} else value
