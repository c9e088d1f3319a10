"""Motion and flicker of a video, from its pixels alone."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

FLOW_SHORT_SIDE_PX = 96


def movement(rgb: np.ndarray, fps: float) -> Mapping[str, float]:
    """Figures of a video (T, H, W, 3) uint8; none of a picture, `flicker` of three frames or more.

    `motion`: mean length of the optical flow (OpenCV's DIS), in short sides of the frame per second.
    `change`: mean absolute change of a value from frame to frame, of 255. VBench's temporal flickering is 1 less it.
    `flicker`: mean of |x(t+1) - 2 x(t) + x(t-1)| / 2 over values of 255: change that does not go on in one direction.
    `frozen`: share of the frames that are equal to the one before, to half a step of 255 on average.
    """
    if len(rgb) < 2 or not fps:
        return {}
    values = rgb.astype(np.float32)
    steps = np.diff(values, axis=0)
    changes = np.abs(steps).mean((1, 2, 3))
    found = {
        "motion": _flow(rgb) * fps,
        "change": float(changes.mean()) / 255,
        "frozen": float((changes < 0.5).mean()),
    }
    if len(rgb) > 2:
        found["flicker"] = float(np.abs(np.diff(steps, axis=0)).mean()) / 2 / 255
    return found


def _flow(rgb: np.ndarray) -> float:
    """Mean length of the flow between neighboring frames, in short sides."""
    import cv2

    height, width = rgb.shape[1:3]
    scale = FLOW_SHORT_SIDE_PX / min(height, width)
    size = (max(FLOW_SHORT_SIDE_PX, round(width * scale)), max(FLOW_SHORT_SIDE_PX, round(height * scale)))
    gray = [cv2.cvtColor(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY) for frame in rgb]
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    lengths = [
        np.sqrt(np.square(dis.calc(one, other, None)).sum(-1)).mean()  # type: ignore[call-overload]
        for one, other in pairwise(gray)
    ]
    return float(np.mean(lengths)) / FLOW_SHORT_SIDE_PX
