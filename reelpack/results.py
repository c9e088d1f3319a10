"""What the calls of the API return: where it is, and how many of what. The counts add up.

`summary` has all that the command prints.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelpack.dataset import Dataset

if TYPE_CHECKING:
    import numpy as np

    from pipelines.drivers.caption import CaptionSummary
    from pipelines.drivers.curate import CurateSummary
    from pipelines.drivers.encode import EncodeSummary
    from pipelines.drivers.evaluate import Evaluated as EvaluateSummary
    from pipelines.drivers.select import SelectSummary
    from train.monitor.metrics import TrainSummary

REJECTED = "reject:"


@dataclass(frozen=True, kw_only=True, repr=False)
class _Decided:
    """Attributes:
    dataset: where the clips are.
    num_clips: found, of which so many are kept, rejected, pending (a score is missing) or failed.
    reasons: rejected clips by the rule that rejects them, the first one.
    num_indexed: kept clips that are cut: what is captioned, encoded and trained on.
    """

    dataset: Dataset
    num_clips: int
    num_kept: int
    num_rejected: int
    num_pending: int
    num_failed: int
    reasons: Mapping[str, int]
    num_indexed: int

    def __repr__(self) -> str:
        reasons = ", ".join(f"{count} {name}" for name, count in self.reasons.items())
        others = {"pending": self.num_pending, "failed": self.num_failed}
        told = "".join(f", {count} {name}" for name, count in others.items() if count)
        rejected = f"{self.num_rejected} rejected{f' ({reasons})' if reasons else ''}"
        return f"<{self.dataset.url}: {self.num_kept} of {self.num_clips} clips kept, {rejected}{told}>"


@dataclass(frozen=True, kw_only=True, repr=False)
class Curated(_Decided):
    """A dataset after `curate`: in addition to the clips, the inputs.

    Attributes:
        num_inputs: files, of which `num_failed_inputs` failed.
        failures: what failed in this call, and why.
        seconds: that the call took.
    """

    num_inputs: int
    num_failed_inputs: int
    failures: tuple[str, ...]
    seconds: float
    summary: "CurateSummary" = field(compare=False)

    @classmethod
    def of(cls, dataset: Dataset, done: "CurateSummary") -> "Curated":
        from curate.schema import said_of

        return cls(
            **_counts(done.funnel),
            dataset=dataset,
            num_indexed=done.num_indexed,
            num_inputs=done.num_inputs,
            num_failed_inputs=done.num_failed_inputs,
            failures=tuple(f"{one.subject}: {one.kind}: {said_of(one.subject, one.detail)}" for one in done.failures),
            seconds=done.seconds,
            summary=done,
        )

    def __repr__(self) -> str:
        failed = f" ({self.num_failed_inputs} failed)" if self.num_failed_inputs else ""
        return f"{super().__repr__()[:-1]}, of {self.num_inputs} inputs{failed}, in {self.seconds:.1f} s>"


@dataclass(frozen=True, kw_only=True, repr=False)
class Selected(_Decided):
    """A dataset under another policy.

    Attributes:
        num_uncut: kept clips that `curate` has to cut first.
    """

    num_uncut: int
    seconds: float
    summary: "SelectSummary" = field(compare=False)

    @classmethod
    def of(cls, dataset: Dataset, done: "SelectSummary") -> "Selected":
        return cls(
            **_counts(done.after),
            dataset=dataset,
            num_indexed=done.num_indexed,
            num_uncut=done.num_uncut,
            seconds=done.seconds,
            summary=done,
        )

    def __repr__(self) -> str:
        uncut = f", {self.num_uncut} of them to be cut by `curate`" if self.num_uncut else ""
        return f"{super().__repr__()[:-1]}{uncut}>"


def _counts(funnel: Mapping[str, int]) -> dict[str, Any]:
    return {
        "num_clips": funnel.get("clips", 0),
        "num_kept": funnel.get("keep", 0),
        "num_rejected": funnel.get("reject", 0),
        "num_pending": funnel.get("pending", 0),
        "num_failed": funnel.get("failed", 0),
        "reasons": {name.removeprefix(REJECTED): n for name, n in funnel.items() if name.startswith(REJECTED)},
    }


@dataclass(frozen=True, kw_only=True, repr=False)
class Captioned:
    """A dataset after `caption`.

    Attributes:
        dataset: where the captions are.
        num_clips: that are kept.
        num_new: clips captioned in this call.
        num_failed: clips that failed in this call.
        num_captions: in the index, over all levels that a model is trained on.
        levels: captions by level.
        notes: what a reader of the captions must know.
        seconds: that the call took.
    """

    dataset: Dataset
    num_clips: int
    num_new: int
    num_failed: int
    num_captions: int
    levels: Mapping[str, int]
    notes: tuple[str, ...]
    seconds: float
    summary: "CaptionSummary" = field(compare=False)

    @classmethod
    def of(cls, dataset: Dataset, done: "CaptionSummary") -> "Captioned":
        names = ("num_clips", "num_new", "num_failed", "num_captions", "levels", "notes", "seconds")
        return cls(dataset=dataset, summary=done, **{name: getattr(done, name) for name in names})

    def __repr__(self) -> str:
        levels = ", ".join(f"{level} {count}" for level, count in self.levels.items())
        told = f"{self.num_captions} captions of {self.num_clips} clips ({levels}), {self.num_new} clips new"
        return f"<{self.dataset.url}: {told}, {self.num_failed} failed, in {self.seconds:.1f} s>"


@dataclass(frozen=True, kw_only=True, repr=False)
class Encoded:
    """A dataset after `encode`.

    Attributes:
        dataset: where the latents are.
        latents: their fingerprint.
        text: fingerprint of the text embeddings; None: no clip has a caption.
        num_clips: clips with latents, of `num_windows` windows and `num_tokens` tokens.
        num_captions: texts that are embedded.
        num_uncaptioned: clips without a text.
        num_failed: clips that failed in this call.
        seconds: that the call took.
    """

    dataset: Dataset
    latents: str
    text: str | None
    num_clips: int
    num_windows: int
    num_tokens: int
    num_captions: int
    num_uncaptioned: int
    num_failed: int
    seconds: float
    summary: "EncodeSummary" = field(compare=False)

    @classmethod
    def of(cls, dataset: Dataset, done: "EncodeSummary") -> "Encoded":
        names = ("latents", "text", "num_clips", "num_windows", "num_tokens", "num_captions", "num_uncaptioned")
        facts = {name: getattr(done, name) for name in (*names, "num_failed", "seconds")}
        return cls(dataset=dataset, summary=done, **facts)

    def __repr__(self) -> str:
        told = f"{self.num_clips} clips, {self.num_tokens:,} tokens, {self.num_captions} captions"
        return f"<{self.dataset.url}: {told} encoded, {self.num_failed} failed, in {self.seconds:.1f} s>"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An export: its folder, its clips, and how many of them have a caption."""

    out: str
    num_clips: int
    num_captioned: int


@dataclass(frozen=True, kw_only=True, repr=False)
class Trained:
    """A run after `train`.

    Attributes:
        run: its directory.
        steps: done.
        loss_first, loss_last: training losses, means over ten steps.
        num_parameters: of the model.
        checkpoint: the last one.
    """

    run: str
    steps: int
    loss_first: float
    loss_last: float
    num_parameters: int
    checkpoint: str
    summary: "TrainSummary" = field(compare=False)

    @classmethod
    def of(cls, run: str, done: "TrainSummary") -> "Trained":
        return cls(
            run=run,
            steps=done.steps,
            loss_first=done.train_loss_first,
            loss_last=done.train_loss_last,
            num_parameters=done.num_parameters,
            checkpoint=done.checkpoint,
            summary=done,
        )

    def __repr__(self) -> str:
        loss = f"{self.loss_first:.3f} → {self.loss_last:.3f}"
        return f"<{self.run}: {self.steps} steps of {self.num_parameters:,} parameters, loss {loss}>"


@dataclass(frozen=True)
class Sample:
    """A generated video, or with one frame an image; notebooks show it."""

    path: Path

    @property
    def facts(self) -> dict[str, Any]:
        """Prompt, seed, run, step and settings: what the .json beside the file says; empty for a grid."""
        beside = self.path.with_suffix(".json")
        facts: dict[str, Any] = json.loads(beside.read_text()) if beside.is_file() else {}
        return facts

    def frames(self) -> "np.ndarray":
        """(T, H, W, 3) uint8, decoded from the file."""
        from curate.media.decode import decode_clip

        return decode_clip(self.path.read_bytes()).rgb

    def _repr_html_(self) -> str:
        from html import escape

        from reelpack.html import media_html

        shown = media_html(self.path.read_bytes(), self.path.suffix.removeprefix("."))
        return f"{shown}<br>{escape(str(self.facts.get('prompt') or self.path.name))}"


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """What `sample` wrote: the videos in the order of prompts and seeds, and all of them side by side."""

    samples: tuple[Sample, ...]
    grid: Sample | None = None

    @property
    def paths(self) -> list[Path]:
        return [sample.path for sample in self.samples]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def __len__(self) -> int:
        return len(self.samples)

    def _repr_html_(self) -> str:
        return "".join(f"<p>{sample._repr_html_()}</p>" for sample in self.samples)


@dataclass(frozen=True, kw_only=True, repr=False)
class Evaluated:
    """What was measured of a run's samples.

    Attributes:
        folder: of the videos and of evaluate.json.
        num_videos: generated.
        num_held_out: clips that they are compared with.
    """

    folder: str
    num_videos: int
    num_held_out: int
    summary: "EvaluateSummary" = field(compare=False)

    @classmethod
    def of(cls, done: "EvaluateSummary") -> "Evaluated":
        figures = done.figures
        return cls(folder=done.folder, num_videos=figures.num_videos, num_held_out=figures.num_held_out, summary=done)

    @cached_property
    def figures(self) -> dict[str, Any]:
        """All figures, as in evaluate.json."""
        return asdict(self.summary.figures)

    def __repr__(self) -> str:
        return f"<{self.folder}: {self.num_videos} samples beside {self.num_held_out} held-out clips>"
