"""Do videos show what their prompts say? CLIPSIM (Wu et al. 2021, GODIVA), beside shuffled prompts.

CLIPSIM is the mean cosine of a video's frames with its prompt. Its size depends on the encoder and on the prompts. The
difference to other prompts of the same set tells whether the text is followed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TextMatch:
    """N videos under their prompts.

    Attributes:
        own: (N,) cosine of each video with its prompt.
        shuffled: Mean cosine with the prompts of the set that read otherwise; None where all are equal.
        first: Share of the videos whose own prompt matches better than every other; None likewise.
        p_value: Of a permutation test: how often prompts dealt at random match as well; 1 where all are equal.
    """

    own: np.ndarray
    shuffled: float | None
    first: float | None
    p_value: float


def clipsim(frames: np.ndarray, text: np.ndarray) -> float:
    """Mean cosine of frames (F, d) and a text (d,), all of unit length."""
    return float((frames @ text).mean())


def frame_consistency(frames: np.ndarray) -> float:
    """Mean cosine of frames that follow each other, (F, d) of unit length, F > 1."""
    return float((frames[:-1] * frames[1:]).sum(1).mean())


def match(videos: Sequence[np.ndarray], texts: np.ndarray, prompts: Sequence[str], num_permutations: int) -> TextMatch:
    """Frames (F, d) of N videos under texts (N, d) of unit length, the embeddings of `prompts`.

    The p-value counts the given order as one of the permutations, so it is at least 1 / (num_permutations + 1).
    """
    means = np.stack([frames.mean(0, dtype=np.float64) for frames in videos])
    cosines = means @ texts.astype(np.float64).T  # (video, prompt)
    names = np.array(prompts)
    others = names[:, None] != names[None]
    own = cosines.diagonal()
    if not others.any():
        return TextMatch(own=own, shuffled=None, first=None, p_value=1.0)
    rng, rows = np.random.default_rng(0), np.arange(len(own))
    dealt = np.array([cosines[rows, rng.permutation(rows)].sum() for _ in range(num_permutations)])
    as_good = int((dealt >= own.sum() - 1e-12).sum())
    best_other = np.where(others, cosines, -np.inf).max(1)
    return TextMatch(
        own=own,
        shuffled=float(cosines[others].mean()),
        first=float((own > best_other).mean()),
        p_value=(1 + as_good) / (1 + num_permutations),
    )
