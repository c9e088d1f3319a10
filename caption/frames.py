"""Which frames of a clip a captioner is shown: windows of long clips, and how frames are spread over a window."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curate.media.decode import ClipTimes, Size, clip_times, middles, within_short_side
from curate.media.readers.frames import PYAV, FrameReader

NUM_CANDIDATES = 128
"""Frames of a window among which `scene` and `motion` choose: they are decoded at a low resolution."""

CANDIDATE_SHORT_SIDE_PX = 32

TIME_WEIGHT = 0.05
"""The length of a window counts as a difference of 5 % of the range in each pixel: frames of a window in which
nothing changes are spread over time, and each change that can be seen counts for more."""

ADDED_SHARE = 0.05
"""Of the mean change between two candidates, which is added to each: a window without change is divided evenly."""

WINDOW_SLACK = 1e-3
"""Of a window: rounded times do not make another one."""


class FramesConfig(BaseModel):
    """Which frames of a clip the captioner is shown."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sampling: Literal["uniform", "scene", "motion"] = Field(
        "uniform",
        description="uniform: at the middles of equal parts; scene: from each part that looks different; motion: at "
        "equal shares of the change of the picture",
    )
    num_frames: int = Field(4, ge=1, description="frames per window, or per clip without windows")
    max_pixels: int | None = Field(
        None, ge=1, description="pixels of a window's frames together, which are scaled down to it; null for no limit"
    )
    window_s: float | None = Field(
        None,
        gt=0,
        description="longer clips are divided into equal windows of at most this many seconds; null for one window",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowFrames:
    """What the captioner is shown of a window.

    Attributes:
        start_s, end_s: The window, seconds from the clip's start.
        rgb: `(T, H, W, 3)` uint8 in the order of time; the frames of all windows of a clip have one size.
        indices: `(T,)` int64, numbers of the frames within the clip.
        pts_s: `(T,)` float64, when they are shown, seconds from the clip's start.
        fallback: Why PyAV read them instead of the chosen reader; None where that did not happen.
    """

    start_s: float
    end_s: float
    rgb: np.ndarray
    indices: np.ndarray
    pts_s: np.ndarray
    fallback: str | None = None


def windows_of(
    data: bytes, config: FramesConfig, *, attempt: int = 1, reader: FrameReader = PYAV
) -> list[WindowFrames]:
    """Decodes a clip's windows; the frames of all of them are in memory at the same time.

    Args:
        data: MP4 or still image. An image, and a clip of one frame, give this frame.
        config: The settings.
        attempt: From 2 on, a window gives twice `num_frames`, and none that an earlier attempt gave, as long as it has
            enough of them.
        reader: What decodes.

    Raises:
        MediaError: The bytes are no video, are damaged, or hold no frame.
        ValueError: `attempt` is below 1.
    """
    if attempt < 1:
        raise ValueError(f"attempt is a number from 1 on, got {attempt}")
    times = clip_times(data)
    edges_s, ranges = _windows(times, config.window_s)
    if config.sampling == "uniform":
        chosen = [_chosen(frames, config.num_frames, attempt, _evenly) for frames in ranges]
    else:
        choose = _by_scene if config.sampling == "scene" else _by_motion
        pools = [frames[middles(len(frames), NUM_CANDIDATES)] for frames in ranges]
        chosen = [_chosen(pool, config.num_frames, attempt, choose(reader, data, times, pool)) for pool in pools]
    most = max(map(len, chosen))
    shown = np.unique(np.concatenate(chosen))
    size = None if config.max_pixels is None else _within(config.max_pixels / most)
    reading = reader.frames(data, times, shown, size)
    rgb = np.stack(list(reading))
    return [
        WindowFrames(
            start_s=start_s,
            end_s=end_s,
            rgb=rgb if len(chosen) == 1 else rgb[np.searchsorted(shown, indices)],
            indices=indices,
            pts_s=times.starts_s[indices],
            fallback=reading.fallback,
        )
        for start_s, end_s, indices in zip(edges_s[:-1], edges_s[1:], chosen, strict=True)
    ]


def _windows(times: ClipTimes, window_s: float | None) -> tuple[list[float], list[np.ndarray]]:
    """The edges of equal windows, seconds, and the numbers of each window's frames; a window in which no frame begins
    has the frame that is still shown."""
    end_s = float((times.end_pts - int(times.pts[0])) * times.time_base)
    count = 1 if window_s is None or len(times.pts) == 1 else max(1, math.ceil(end_s / window_s - WINDOW_SLACK))
    edges_s = [end_s * number / count for number in range(count + 1)]
    firsts = np.searchsorted(times.starts_s, np.array(edges_s[:-1]) - 1e-6)
    ends = [*firsts[1:], len(times.pts)]
    return edges_s, [
        np.arange(first, end) if first < end else np.array([max(0, first - 1)])
        for first, end in zip(firsts, ends, strict=True)
    ]


Chooser = Callable[[np.ndarray, int], np.ndarray]
"""Positions `(n,)`, which increase, and a count below n → the positions that are taken, which increase."""


def _chosen(frames: np.ndarray, num_frames: int, attempt: int, choose: Chooser) -> np.ndarray:
    """The frames of an attempt: no earlier attempt has them, unless too few are left."""
    left = np.arange(len(frames))
    for number in range(1, attempt + 1):
        count = num_frames if number == 1 else 2 * num_frames
        if len(left) < count:
            left = np.arange(len(frames))
        taken = left if len(left) <= count else choose(left, count)
        left = np.setdiff1d(left, taken)
    return np.asarray(frames[taken], np.int64)


def _evenly(positions: np.ndarray, count: int) -> np.ndarray:
    return positions[middles(len(positions), count)]


def _by_scene(reader: FrameReader, data: bytes, times: ClipTimes, frames: np.ndarray) -> Chooser:
    """One frame from each of `count` parts.

    The parts are the stretches whose frames differ least from their mean, squared, in sum. This division is found
    exactly, by dynamic programming over the frames' products (kernel temporal segmentation: Potapov et al., ECCV 2014,
    section 3, with a given number of parts). A part gives the frame that is nearest to its mean.
    """
    pixels = _candidates(reader, data, times, frames).reshape(len(frames), -1).astype(np.float64)
    when = times.starts_s[frames] / max(1e-9, times.starts_s[frames[-1]] - times.starts_s[frames[0]])
    # Sums of whole numbers: the number of BLAS's threads does not show.
    products = pixels @ pixels.T / (pixels.shape[1] * 255**2) + TIME_WEIGHT**2 * np.outer(when, when)

    def choose(positions: np.ndarray, count: int) -> np.ndarray:
        inside = products[np.ix_(positions, positions)]
        taken = [first + _nearest_to_mean(inside[first:end, first:end]) for first, end in _parts(inside, count)]
        return positions[taken]

    return choose


def _by_motion(reader: FrameReader, data: bytes, times: ClipTimes, frames: np.ndarray) -> Chooser:
    """Frames at the middles of equal shares of the change between neighbors, the mean difference of their pixels. One
    step counts for at most one share: a cut is no motion."""
    pixels = _candidates(reader, data, times, frames).reshape(len(frames), -1).astype(np.int16)

    def choose(positions: np.ndarray, count: int) -> np.ndarray:
        change = np.abs(np.diff(pixels[positions], axis=0)).mean(axis=1)
        change = np.minimum(change, change.sum() / count) + ADDED_SHARE * change.mean() + 1e-9
        reached = np.concatenate([[0], np.cumsum(change)])
        shares = (np.arange(count) + 0.5) / count * reached[-1]
        nearest = np.searchsorted((reached[1:] + reached[:-1]) / 2, shares)
        # Each is taken once: pushed up where it is its predecessor's, then down from the end.
        steps = np.arange(count)
        distinct = np.maximum.accumulate(nearest - steps) + steps
        return positions[np.minimum(distinct, len(positions) - count + steps)]

    return choose


def _candidates(reader: FrameReader, data: bytes, times: ClipTimes, frames: np.ndarray) -> np.ndarray:
    """`(T, h, w, 3)` uint8 of these frames, at a low resolution."""
    return np.stack(list(reader.frames(data, times, frames, within_short_side(CANDIDATE_SHORT_SIDE_PX))))


def _parts(products: np.ndarray, count: int) -> list[tuple[int, int]]:
    """The division of `(n, n)` products into `count` ranges with the least sum of squared distances to their means."""
    num = len(products)
    sums = np.zeros((num + 1, num + 1))
    sums[1:, 1:] = products.cumsum(axis=0).cumsum(axis=1)
    squares = np.concatenate([[0], np.cumsum(np.diag(products))])
    first, end = np.meshgrid(np.arange(num + 1), np.arange(num + 1), indexing="ij")
    block = np.diag(sums)[end] - sums[first, end] - sums[end, first] + np.diag(sums)[first]
    cost = np.where(first < end, squares[end] - squares[first] - block / np.maximum(1, end - first), np.inf)
    best, starts = cost[0], []
    for _ in range(count - 1):
        reached = best[:, None] + cost
        starts.append(reached.argmin(axis=0))
        best = reached.min(axis=0)
    edges = [num]
    for start in reversed(starts):
        edges.append(int(start[edges[-1]]))
    edges.append(0)
    return list(zip(edges[:0:-1], edges[-2::-1], strict=True))


def _nearest_to_mean(products: np.ndarray) -> int:
    return int(np.argmin(np.diag(products) - 2 * products.mean(axis=1)))


def _within(max_pixels: float) -> Callable[[int, int], Size]:
    """A size of at most this many pixels, with the frame's shape."""

    def size(height: int, width: int) -> Size:
        scale = min(1.0, math.sqrt(max_pixels / (height * width)))
        return max(1, math.floor(height * scale)), max(1, math.floor(width * scale))

    return size
