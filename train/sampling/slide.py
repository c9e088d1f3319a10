"""Long videos by sliding extension: drawn in windows, each of which continues the one before from its last frames.

A window is as long as the longest video that the run was trained on. Its first frames are the last ones of the video
so far, encoded as a clip that begins there, as in training: where an autoencoder strides over frames, latents from the
middle of a window are other ones. Frames that are given are not drawn again: no pixel before a seam changes.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from train.autoencoder.base import VideoAutoencoder
from train.autoencoder.pixels import decode_latent, encode_frames
from train.data.tasks.base import Shown, canvas_of
from train.data.tasks.base import allowed as is_task
from train.packing.patches import first_frame_is_alone, fitting_size
from train.run.config import TrainConfig
from train.run.folder import RunRecord
from train.sampling.config import SampleConfig
from train.sampling.given import Given
from train.sampling.given_files import GivenFiles
from train.sampling.loaded import LoadedRun
from train.sampling.request import Request, latent_shape
from train.sampling.sample import Generated, draw

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Slide:
    """Lengths in frames: of the video, of a window, and of what a window is given."""

    num_frames: int
    window: int
    overlap: int

    @property
    def num_windows(self) -> int:
        return 1 + math.ceil((self.num_frames - self.window) / (self.window - self.overlap))

    def check_given(self, given: GivenFiles) -> None:
        """See that a start alone is given.

        Raises:
            ValueError: more is given.
        """
        _, end, edited = given.parts
        if end is not None or edited is not None or given.keys:
            raise ValueError(
                f"got {self.num_frames} frames, drawn in windows of {self.window}, and more than a start; ask for at "
                f"most {self.window} frames, or give a start alone"
            )


def plan_slide(asked: Request, settings: SampleConfig, config: TrainConfig, record: RunRecord) -> Slide | None:
    """The windows of a video; None: it is drawn as a whole.

    Raises:
        ValueError: a window that the run cannot draw, or continue.
    """
    stride, patch = int(record.latents["temporal_stride"]), config.model.patch
    trained, _, _ = fitting_size((record.longest, *patch[1:]), patch)
    window = settings.window_frames or (1 + stride * (trained - 1) if trained else asked.num_frames)
    if asked.num_frames <= window:
        return None
    shape = latent_shape(replace(asked, num_frames=window), record.latents, patch)
    canvas = canvas_of(shape, patch)
    allowed = [
        number
        for number in range(1, canvas.grid[0])
        if is_task(config.data.tasks, canvas, Shown(patches=canvas.first(number)))
    ]
    if not allowed:
        told = "the run was trained on no task that continues a video from its first frames (train.data.tasks)"
        if settings.window_frames is not None:
            raise ValueError(f"sample.window_frames={window}: {told}; leave it out, and the video is drawn as a whole")
        logger.warning("%d frames are more than any training sample has, and %s", asked.num_frames, told)
        return None
    latent_frames = max(allowed) * patch[0] - (patch[0] - 1 if first_frame_is_alone(shape[1], patch) else 0)
    return Slide(num_frames=asked.num_frames, window=window, overlap=1 + stride * (latent_frames - 1))


def draw_windows(
    run: LoadedRun,
    requests: Sequence[Request],
    settings: SampleConfig,
    slide: Slide,
    autoencoder: VideoAutoencoder,
    on_progress: Callable[[float], None] | None = None,
) -> Iterator[tuple[int, Generated, np.ndarray]]:
    """One video per request, (T, H, W, 3) uint8, with the request's number and its last window.

    Args:
        run: what draws.
        requests: each of the length of a window; its start is that of the video.
        settings: how it is drawn.
        slide: the windows.
        autoencoder: of the run.
        on_progress: see `draw`.

    Raises:
        ValueError: as `train.sampling.sample.sample`.
    """
    videos = [np.empty((0, request.height, request.width, 3), np.uint8) for request in requests]
    own, results = list(requests), dict[int, Generated]()
    for part in range(slide.num_windows):
        if part:
            starts = (encode_frames(autoencoder, iter(rgb[-slide.overlap :]), slide.overlap) for rgb in videos)
            own = [
                replace(request, part=part, given=Given(start=start))
                for request, start in zip(requests, starts, strict=True)
            ]

        def report(share: float, part: int = part) -> None:
            if on_progress is not None:
                on_progress((part + share) / slide.num_windows)

        for i, result in draw(run, own, settings, report):
            rgb = decode_latent(autoencoder, result.latent)
            videos[i] = np.concatenate([videos[i], rgb[slide.overlap * (part > 0) :]])
            results[i] = result
    for i, rgb in enumerate(videos):
        yield i, results[i], rgb[: slide.num_frames]
