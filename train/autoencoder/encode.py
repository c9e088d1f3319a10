"""Stage: clips of the shards to normalized latents, at their own shape and length."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch

from curate.encoders.base import PatchEncoder
from curate.encoders.picture_states import PictureStates
from curate.media.readers.config import MediaConfig
from curate.schema import Failure, FailureKind, MediaError
from curate.shards.tar import TarReader
from curate.threads import import_decoders
from train.align.frames import frames_of_tokens
from train.autoencoder.base import VideoAutoencoder, latent_shape
from train.autoencoder.batch import Batcher, batch_px_of
from train.autoencoder.clip import STEP, ClipOpener, EncodeItem, OpenedClip
from train.autoencoder.config import EncodeConfig
from train.autoencoder.pixels import gray_video
from train.autoencoder.record import latents_record
from train.autoencoder.stored import FEATURES, PICTURES, arrays, check_fits, codebook_bytes, gray_name, lone_frames_of
from train.autoencoder.windows import Window, keeping
from train.data.tasks.base import GrayVideo


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """A latent of `num_frames` frames of `height` x `width` px at `fps`: a window of a clip, or the whole.

    Attributes:
        tensors: as they are stored, see `train.autoencoder.stored`; None where nothing is to be stored.
        shape: of the latent, in any case.
        window: its number within the clip.
        start_frame: the first of its frames, among the `clip_frames` that the clip has at this rate.
        source_height, source_width: of the clip, px, upright and with square pixels: it was scaled, and not cropped.
        fallback: why PyAV read the frames instead of the chosen reader; None where that did not happen.
    """

    clip_id: str
    tensors: Mapping[str, np.ndarray] | None
    shape: tuple[int, int, int, int]
    num_frames: int
    height: int
    width: int
    fps: float  # 0 for an image
    window: int = 0
    start_frame: int = 0
    clip_frames: int = 1
    source_height: int = 0
    source_width: int = 0
    fallback: str | None = None

    @property
    def latent(self) -> np.ndarray:
        """(C, T, H, W) float16, normalized; the mean where moments are stored."""
        assert self.tensors is not None
        return self.tensors["latent"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Begun:
    """A window whose latent may still have to be computed; None: it is not wanted. `lone`: frames encoded alone;
    `gray`: latents of gray videos, by name; `pictures`: states of their frames."""

    window: Window
    height: int
    width: int
    latent: Future[torch.Tensor] | None
    lone: Sequence[Future[torch.Tensor]]
    gray: Mapping[str, Future[torch.Tensor]]
    pictures: torch.Tensor | None
    features: torch.Tensor | None


KEPT = ("config", "_device", "_reader", "_media", "_frame_reader", "_batch_px")


class EncodeStage:
    """Decodes, resizes and encodes clips: none is cropped or padded to the shape of another.

    A clip longer than `config.max_frames` gives a latent for each of its windows (`train.autoencoder.windows`). The
    next clips are decoded beside the autoencoder (`.ahead`). A GPU encodes clips of one shape together (`.batch`).
    """

    step = STEP

    def __init__(
        self,
        config: EncodeConfig,
        shards_root: str,
        device: torch.device | None = None,
        media: MediaConfig | None = None,
        batch_px: int | None = None,
    ) -> None:
        """`device` is that of a training worker; None: the current one of the kind that the settings name. `media`:
        what reads the frames; None: the defaults. `batch_px`: see `Batcher`; None: by the device."""
        self.config = config
        self._media = media or MediaConfig()
        self._frame_reader = self._media.build()
        self._device = device
        self._reader = TarReader(shards_root)
        self._autoencoder: VideoAutoencoder | None = None
        self._picture: PictureStates | None = None
        self._encoder: PatchEncoder | None = None
        self._batch_px = batch_px
        self._opened: dict[int, tuple[EncodeItem, Future[OpenedClip | Failure]]] = {}
        self._opener: ThreadPoolExecutor | None = None

    def setup(self) -> None:
        """Loads the weights and the reader of frames.

        Raises:
            ValueError: Weights are missing, the reader does not load, or `posterior` or `store` does not suit the
                autoencoder.
        """
        import_decoders()
        self._frame_reader.setup()
        autoencoder = self.config.autoencoder.build(self._device)
        check_fits(self.config, autoencoder)
        if self.config.picture is not None:
            self._picture = self.config.picture.build(self._device)
            self._picture.setup()
        if self.config.features is not None:
            self._encoder = self.config.features.build()
            self._encoder.setup()
        self._autoencoder = autoencoder

    @property
    def device(self) -> torch.device:
        """Where the autoencoder computes, which is loaded for it."""
        return self._loaded().device

    def fingerprint_record(self) -> dict[str, Any]:
        """See `train.autoencoder.record`. Loads the autoencoder."""
        return latents_record(self.config, self._loaded(), self._media, self.codebook(), self._picture, self._encoder)

    def codebook(self) -> bytes | None:
        """What lies beside the tars where they hold ids."""
        codebook = self._loaded().codebook
        return codebook_bytes(codebook) if codebook is not None and self.config.store == "ids" else None

    def prefetch(self, items: Sequence[EncodeItem]) -> None:
        """Start to decode items of a later call of `process`."""
        self._loaded()
        self._opener = self._opener or ThreadPoolExecutor(1, thread_name_prefix="encode")
        for item in items:
            self._opened[id(item)] = item, self._opener.submit(self._open, item, num_ahead=len(items))

    def process(self, items: Sequence[EncodeItem]) -> list[tuple[Encoded, ...] | Failure]:
        """In order, the windows of each clip; one that cannot be read or gives no finite latents becomes a failure."""
        return self._outcomes(items, latents=self.config.store is not False)

    def encode(self, item: EncodeItem, lone_frames: Sequence[int] = ()) -> tuple[Encoded, ...] | Failure:
        """The windows of one clip with their latents, also where they are not stored, and in `lone` the last frames of
        these latent frames, encoded alone."""
        return self._outcomes([item], latents=True, lone_frames=lone_frames)[0]

    def give_up(self, item: EncodeItem, kind: FailureKind, detail: str, attempts: int) -> Failure:
        return Failure(subject=item.clip_id, step=STEP, kind=kind, detail=detail, attempts=attempts)

    def _outcomes(
        self, items: Sequence[EncodeItem], *, latents: bool, lone_frames: Sequence[int] = ()
    ) -> list[tuple[Encoded, ...] | Failure]:
        autoencoder = self._loaded()
        batch_px = batch_px_of(autoencoder.device) if self._batch_px is None else self._batch_px
        batcher = Batcher(autoencoder, batch_px, moments=self.config.posterior != "mean") if latents else None
        begun = [self._begin(item, batcher, lone_frames) for item in items]
        if batcher is not None:
            batcher.flush()
        return [
            one if isinstance(one, Failure) else self._ended(item, *one)
            for item, one in zip(items, begun, strict=True)
        ]

    def _begin(
        self, item: EncodeItem, batcher: Batcher | None, lone_frames: Sequence[int]
    ) -> tuple[OpenedClip, list[_Begun]] | Failure:
        """All frames of the clip are taken: what cannot be decoded is found now, not while training."""
        _, opening = self._opened.pop(id(item), (item, None))
        windows, stride = [], self._loaded().temporal_stride
        try:
            opened = self._open(item) if opening is None else opening.result()
            if isinstance(opened, Failure):
                return opened
            for window, frames in opened.in_windows():
                first, latent, kept = next(frames), None, dict[int, np.ndarray]()
                alone = [stride * frame for frame in lone_frames or self._lone_frames(window)]
                if batcher is not None:
                    wanted = {*alone, *self._seen(window), window.num_frames - 1}
                    frames = keeping(chain([first], frames), wanted, kept)
                    latent = batcher.add(frames, window.num_frames)
                for _ in frames:
                    pass
                height, width, _ = first.shape
                begun = _Begun(
                    window=window,
                    height=height,
                    width=width,
                    latent=latent,
                    lone=[batcher.add(iter([kept[number]]), 1) for number in alone] if batcher else [],
                    gray=self._gray(first, kept, window, batcher),
                    pictures=self._pictures(first, kept, window) if batcher else None,
                    features=self._features([kept[number] for number in self._seen(window)]) if batcher else None,
                )
                windows.append(begun)
        except MediaError as error:
            return error.failure(item.clip_id, STEP)
        return opened, windows

    def _gray(
        self, first: np.ndarray, kept: Mapping[int, np.ndarray], window: Window, batcher: Batcher | None
    ) -> dict[str, Future[torch.Tensor]]:
        """Of an image there is none."""
        if batcher is None or window.num_frames == 1:
            return {}
        ends: dict[GrayVideo, np.ndarray | None] = {"first": None, "both_ends": kept[window.num_frames - 1]}
        return {
            gray_name(kind): batcher.add(gray_video(first, window.num_frames, ends[kind]), window.num_frames)
            for kind in self.config.gray
        }

    def _seen(self, window: Window) -> list[int]:
        """The frame that stands for each latent frame, for features."""
        if self._encoder is None:
            return []
        stride = self._loaded().temporal_stride
        seen = frames_of_tokens(1 + (window.num_frames - 1) // stride, (1, 1, 1), stride, 1)
        return [number for of_frame in seen for number in of_frame]

    def _features(self, frames: Sequence[np.ndarray]) -> torch.Tensor | None:
        return None if self._encoder is None else torch.from_numpy(self._encoder.patch_features(np.stack(frames)))

    def _pictures(self, first: np.ndarray, kept: Mapping[int, np.ndarray], window: Window) -> torch.Tensor | None:
        if self._picture is None or window.num_frames == 1:
            return None
        ends = [kept[window.num_frames - 1]] if "both_ends" in self.config.gray else []
        return self._picture.states([first, *ends])

    def _ended(self, item: EncodeItem, opened: OpenedClip, windows: Sequence[_Begun]) -> tuple[Encoded, ...] | Failure:
        try:
            return tuple(self._encoded(item.clip_id, opened, one) for one in windows)
        except torch.OutOfMemoryError as error:
            shape = f"{windows[0].window.num_frames} frames of {windows[0].width}x{windows[0].height}"
            detail = f"{shape}: {error}; lower max_area_px or max_frames"
        except ValueError as error:
            detail = str(error)
        return Failure(subject=item.clip_id, step=STEP, kind=FailureKind.MODEL, detail=detail)

    def _encoded(self, clip_id: str, opened: OpenedClip, begun: _Begun) -> Encoded:
        """Raises what kept the latent from being computed, or ValueError where it cannot be stored."""
        autoencoder, window = self._loaded(), begun.window
        assert opened.size.source is not None, "its frames were taken"
        source_height, source_width = opened.size.source
        tensors = None
        if begun.latent is not None:
            key = (clip_id, window.number) if window.number else (clip_id,)
            lone = torch.cat([one.result() for one in begun.lone], dim=1) if begun.lone else None
            beside = {name: latent.result() for name, latent in begun.gray.items()}
            beside |= {} if begun.pictures is None else {PICTURES: begun.pictures}
            beside |= {} if begun.features is None else {FEATURES: begun.features}
            latent = begun.latent.result()
            tensors = arrays(latent, self.config, autoencoder.codebook, *key, lone=lone, beside=beside)
        return Encoded(
            clip_id=clip_id,
            tensors=tensors,
            shape=latent_shape(autoencoder, window.num_frames, begun.height, begun.width),
            num_frames=window.num_frames,
            height=begun.height,
            width=begun.width,
            fps=0.0 if window.num_frames == 1 else opened.fps,
            window=window.number,
            start_frame=window.start,
            clip_frames=opened.num_frames,
            source_height=source_height,
            source_width=source_width,
            fallback=opened.reading.fallback,
        )

    def _lone_frames(self, window: Window) -> tuple[int, ...]:
        return lone_frames_of(self.config, 1 + (window.num_frames - 1) // self._loaded().temporal_stride)

    def _open(self, item: EncodeItem, *, num_ahead: int = 0) -> OpenedClip | Failure:
        """See `ClipOpener.open`."""
        autoencoder = self._loaded()
        opener = ClipOpener(
            self.config,
            self._reader,
            self._frame_reader,
            temporal_stride=autoencoder.temporal_stride,
            spatial_stride=autoencoder.spatial_stride,
        )
        return opener.open(item, num_ahead=num_ahead)

    def _loaded(self) -> VideoAutoencoder:
        if self._autoencoder is None:
            self.setup()
        assert self._autoencoder is not None
        return self._autoencoder

    def __getstate__(self) -> dict[str, Any]:
        idle: dict[str, Any] = {
            "_autoencoder": None,
            "_picture": None,
            "_encoder": None,
            "_opened": {},
            "_opener": None,
        }
        kept = {name: getattr(self, name) for name in KEPT}
        return {**kept, **idle}
