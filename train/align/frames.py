"""Which frames of a clip an image encoder sees for a token of its latent."""

from itertools import pairwise

import numpy as np

from train.packing.patches import first_frame_is_alone
from train.packing.shapes import Patch


def frames_of_tokens(num_frames: int, patch: Patch, temporal_stride: int, per_token: int) -> list[list[int]]:
    """For each patch along time, the pixel frames that stand for it, ascending: at most `per_token`, in the middles of
    equal parts of its frames.

    Args:
        num_frames: of the latent, which patches fill. The first one stands for one pixel frame, each other one for
            `temporal_stride`.
        patch: of the model.
        temporal_stride: of the autoencoder.
        per_token: pixel frames that are wanted.
    """
    first = 1 if first_frame_is_alone(num_frames, patch) else patch[0]
    ends = np.array([0, *range(first, num_frames + 1, patch[0])])  # of latent frames
    ends = np.maximum(0, 1 + (ends - 1) * temporal_stride)  # of pixel frames
    return [
        sorted({start + (2 * i + 1) * (end - start) // (2 * per_token) for i in range(per_token)})
        for start, end in pairwise(ends.tolist())
    ]
