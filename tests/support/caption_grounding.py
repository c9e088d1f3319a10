"""How much a captioner looks at its clips: likelihood of true captions with the true frames, and with other ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from caption.backends.base import CaptionRequest

MIN_GAP = 0.05
"""Nats per token by which true frames must be better than those of another clip, and than black ones."""

SIGNIFICANT = 0.05
"""Probability of the split of the clips, if the frames had no part in it, below which it counts."""

GATED = ("shuffled", "black")
"""Time and motion are gated for no captioner: captions of many clips can be told from one frame."""

Losses = Callable[[Sequence[CaptionRequest], Sequence[str]], list[float]]
"""Mean next-token loss of each text as the answer to its request, in nats, such as `TransformersVlm.losses`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """A clip: (T, H, W, 3) uint8 RGB frames and its true caption; clips of one `subject` are not exchanged."""

    frames: np.ndarray
    caption: str
    subject: str


@dataclass(frozen=True, kw_only=True)
class Grounding:
    """Losses of true captions, mean over each caption's tokens, nats.

    Attributes:
        true: (N,) with the clips' own frames.
        gaps: Name of what was shown instead → (N,) how much more the loss is then.
    """

    true: np.ndarray
    gaps: Mapping[str, np.ndarray]

    @property
    def looks(self) -> bool:
        """Whether the captioner is shown to look at the frames."""
        return all(
            self.gaps[name].mean() >= MIN_GAP
            and chance(int((self.gaps[name] > 0).sum()), len(self.true)) < SIGNIFICANT
            for name in GATED
        )

    def table(self) -> str:
        lines = [
            f"loss of true captions with their frames: {self.true.mean():.3f} nats a token ({len(self.true)} clips)",
            "| frames shown | loss more, nats a token | standard error | clips worse | p |",
            "|-" * 5 + "|",
        ]
        for name, gaps in self.gaps.items():
            wins = int((gaps > 0).sum())
            error = gaps.std(ddof=1) / len(gaps) ** 0.5
            lines.append(
                f"| {name} | {gaps.mean():.3f} | {error:.3f} | {wins} of {len(gaps)} | {chance(wins, len(gaps)):.2g} |"
            )
        return "\n".join(lines)


def measure(losses: Losses, clips: Sequence[Shown], prompt: str, batch_size: int = 8) -> Grounding:
    """The losses of the clips' captions with their own frames and without them."""
    captions = [clip.caption for clip in clips]

    def of(frames: Sequence[np.ndarray]) -> np.ndarray:
        requests = [CaptionRequest(frames=shown, prompt=prompt, max_tokens=1) for shown in frames]
        batches = range(0, len(requests), batch_size)
        found = [losses(requests[at : at + batch_size], captions[at : at + batch_size]) for at in batches]
        return np.array([loss for batch in found for loss in batch])

    own = [clip.frames for clip in clips]
    true = of(own)
    instead = {
        "shuffled": [_other(clips, row).frames for row in range(len(clips))],
        "reversed": [frames[::-1].copy() for frames in own],
        "frozen": [np.repeat(frames[:1], len(frames), 0) for frames in own],
        "black": [np.zeros_like(frames) for frames in own],
    }
    return Grounding(true=true, gaps={name: of(frames) - true for name, frames in instead.items()})


def blind(losses: Losses) -> Losses:
    """The same captioner, to which nothing is shown: it must fail."""

    def of_blank(requests: Sequence[CaptionRequest], texts: Sequence[str]) -> list[float]:
        blank = [
            CaptionRequest(frames=np.zeros_like(one.frames), prompt=one.prompt, max_tokens=one.max_tokens)
            for one in requests
        ]
        return losses(blank, texts)

    return of_blank


def chance(wins: int, num: int) -> float:
    """Probability of at least so many wins if both sides were equally likely to win (one-sided sign test)."""
    return sum(comb(num, k) for k in range(wins, num + 1)) / 2**num


def _other(clips: Sequence[Shown], row: int) -> Shown:
    """The next clip of another subject.

    Raises:
        ValueError: all clips have the same subject.
    """
    following = (*clips[row + 1 :], *clips[:row])
    if (other := next((clip for clip in following if clip.subject != clips[row].subject), None)) is None:
        raise ValueError(f"got {len(clips)} clips of one subject; expected clips of two subjects and more")
    return other
