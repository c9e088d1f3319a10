"""What a user asks for, one video at a time, and the command that asks for it again."""

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from train.sampling.config import SampleConfig
from train.sampling.given_files import NOTHING, GivenFiles
from train.sampling.guidance.constant import ConstantGuidance

OF_COMMAND = frozenset({"seed", "seeds", "negative", "step", "device"})
"""Settings of sampling that are a video's own, or have options of the command."""
FILES = ("start", "end", "video", "mask", "invert")
"""Of `GivenFiles`, besides the key frames."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One video, or with one frame an image.

    Attributes:
        prompt: "": none.
        seed: Of its noise.
        label: A class of the run, by name or number.
        negative: None: `sample.negative`.
        given: Files that it is generated from.
        typed: What the user wrote, where another prompt was made of it.
    """

    prompt: str
    width: int
    height: int
    num_frames: int
    seed: int
    label: str | None = None
    negative: str | None = None
    given: GivenFiles = NOTHING
    typed: str | None = None

    @property
    def title(self) -> str:
        """For people."""
        return self.typed or self.prompt or (f"class {self.label}" if self.label else "(no prompt)")

    def settings(self, config: SampleConfig) -> dict[str, Any]:
        """For the .json, besides prompt and seed."""
        return {
            **config.model_dump(mode="json", exclude={"step", "seed", "seeds", "device", "negative"}),
            **({} if self.typed is None else {"typed": self.typed}),
            "negative": config.negative if self.negative is None else self.negative,
            "label": self.label,
            "size": f"{self.width}x{self.height}",
            "num_frames": self.num_frames,
            **self.given.facts,
            "given_sha256": self._digest(),
        }

    def _digest(self) -> str | None:
        """Of the bytes of what is given; None: nothing is."""
        files = [*self.given.keys.values(), *(getattr(self.given, name) for name in FILES)]
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path is not None]
        return hashlib.sha256("".join(digests).encode()).hexdigest() if digests else None


def problems_of(error: ValidationError) -> str:
    """Settings that were refused, by name, and what is wrong with each: one line."""
    parts = (f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors(include_url=False))
    return "; ".join(part.removeprefix(": ") for part in parts)


def command_of(runs: Sequence[str], facts: Mapping[str, Any]) -> str:
    """The command that makes a video again.

    Args:
        runs: As the command line names them.
        facts: Of the video's .json.
    """
    parts = ["reelpack", "sample", *runs]
    for option, name in (("prompt", "prompt"), ("negative", "negative"), ("label", "label"), ("size", "size")):
        if facts.get(name):
            parts += [f"--{option}", str(facts[name])]
    parts += ["--frames", str(facts["num_frames"])]
    for name in FILES:
        if facts.get(name):
            parts += [f"--{name}", str(facts[name])]
    for number, path in (facts.get("keys") or {}).items():
        parts += ["--keys", f"{number}={path}"]
    parts += ["--extend", str(facts["extend"])] if facts.get("extend") else []
    parts += ["--loop"] if facts.get("loop") else []
    parts += ["--step", str(facts["step"])] if len(runs) == 1 else []
    parts += ["--set", f"sample.seed={facts['seed']}"]
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
