"""Stage: clips of the shards to normalized latents, at their own shape and length."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Literal

import numpy as np
import torch

from curate.encoders.fingerprint import library_versions
from curate.media.decode import ClipTimes, clip_frames, clip_times
from curate.media.readers.config import MediaConfig
from curate.media.readers.frames import Reading
from curate.schema import Failure, FailureKind, MediaError, content_digest
from curate.shards.tar import TarReader
from curate.threads import import_decoders
from train.autoencoder.ahead import ahead
from train.autoencoder.base import VideoAutoencoder, latent_shape, usable_frames
from train.autoencoder.config import EncodeConfig
from train.autoencoder.stored import arrays, check_fits, codebook_bytes, id_type
from train.data.fingerprint import LATENTS_VERSION

STEP = "encode"
AREA_WEIGHT = 0.5
"""How much a lost share of the area weighs against an equal change of the aspect ratio (both as logarithms)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodeItem:
    """Where the media of a clip are stored: `size` bytes from `offset` of `shard`, with their digest."""

    clip_id: str
    shard: str
    offset: int
    size: int
    kind: Literal["video", "image"]
    digest: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """A latent of `num_frames` frames of `height` x `width` px at `fps`.

    Attributes:
        tensors: as they are stored, see `train.autoencoder.stored`; None where nothing is to be stored.
        shape: of the latent, in any case.
        fallback: why PyAV read the frames instead of the chosen reader; None where that did not happen.
    """

    clip_id: str
    tensors: Mapping[str, np.ndarray] | None
    shape: tuple[int, int, int, int]
    num_frames: int
    height: int
    width: int
    fps: float  # 0 for an image
    fallback: str | None = None

    @property
    def latent(self) -> np.ndarray:
        """(C, T, H, W) float16, normalized; the mean where moments are stored."""
        assert self.tensors is not None
        return self.tensors["latent"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Opened:
    """A clip whose frames (H, W, 3) uint8, resized, are to be encoded: their number, rate and one after the other."""

    num_frames: int
    fps: float
    frames: Iterator[np.ndarray]
    reading: Reading


class EncodeStage:
    """Decodes, resizes and encodes one clip at a time: no clip is cropped or padded to the shape of another. The next
    clips are decoded beside the autoencoder, see `train.autoencoder.ahead`."""

    step = STEP

    def __init__(
        self,
        config: EncodeConfig,
        shards_root: str,
        device: torch.device | None = None,
        media: MediaConfig | None = None,
    ) -> None:
        """`device` is that of a training worker; None: the current one of the kind that the settings name. `media`:
        what reads the frames; None: the defaults."""
        self.config = config
        self._media = media or MediaConfig()
        self._frame_reader = self._media.build()
        self._device = device
        self._reader = TarReader(shards_root)
        self._autoencoder: VideoAutoencoder | None = None
        self._opened: dict[int, tuple[EncodeItem, Future[_Opened | Failure]]] = {}
        self._opener: ThreadPoolExecutor | None = None

    def setup(self) -> None:
        """Loads the weights and the reader of frames.

        Raises:
            ValueError: Weights are missing, the reader does not load, or `multiple_px`, `posterior` or `store` does
                not suit the autoencoder.
        """
        import_decoders()
        self._frame_reader.setup()
        autoencoder = self.config.autoencoder.build(self._device)
        stride = autoencoder.spatial_stride
        if self.config.multiple_px % stride:
            raise ValueError(
                f"encode.multiple_px: got {self.config.multiple_px}, expected a multiple of {stride}, the "
                f"spatial stride of {autoencoder.name}"
            )
        check_fits(self.config, autoencoder)
        self._autoencoder = autoencoder

    @property
    def device(self) -> torch.device:
        """Where the autoencoder computes, which is loaded for it."""
        return self._loaded().device

    def fingerprint_record(self) -> dict[str, Any]:
        """What names the latents, and what is needed to decode them. Loads the autoencoder."""
        autoencoder = self._loaded()
        config = self.config.model_dump(mode="json")
        settings = {key: value for key, value in config.items() if key != "autoencoder"}
        values = {
            "version": LATENTS_VERSION,
            "autoencoder_fingerprint": autoencoder.fingerprint,
            "channels": autoencoder.channels,
            "temporal_stride": autoencoder.temporal_stride,
            "spatial_stride": autoencoder.spatial_stride,
            "layout": "CTHW",
            "dtype": "float16",
        }
        beside: dict[str, Any] = {}
        if (payload := self.codebook()) is not None:
            assert autoencoder.codebook is not None
            num_codes = autoencoder.codebook.num_codes
            values["dtype"] = str(id_type(num_codes))
            beside = {"codebook": {"num_codes": num_codes, "sha256": hashlib.sha256(payload).hexdigest()}}
        for name in ("store", "posterior"):  # as before there was a choice
            if settings[name] == EncodeConfig.model_fields[name].default:
                del settings[name]
        if self.config.posterior != "sample":
            del settings["posterior_seed"]
        reader = self._frame_reader
        if reader.key:
            values["reader"] = reader.key
        parts = [f"{key}={value}" for key, value in sorted({**values, **settings}.items())]
        return {
            "fingerprint": content_digest("latents", *parts)[:16],
            "autoencoder": autoencoder.name,
            "is_causal": autoencoder.is_causal,
            **values,
            **beside,
            "config": config,
            "libraries": {**library_versions("reelpack", "torch", "diffusers", "av"), **reader.read_by(None)},
            **({"media": self._media.model_dump(mode="json")} if reader.key else {}),
        }

    def codebook(self) -> bytes | None:
        """What lies beside the tars where they hold ids."""
        codebook = self._loaded().codebook
        return codebook_bytes(codebook) if codebook is not None and self.config.store == "ids" else None

    def prefetch(self, items: Sequence[EncodeItem]) -> None:
        """Start to decode items of a later call of `process`."""
        self._loaded()
        self._opener = self._opener or ThreadPoolExecutor(1, thread_name_prefix="encode")
        for item in items:
            self._opened[id(item)] = item, self._opener.submit(self._open, item, is_ahead=True)

    def process(self, items: Sequence[EncodeItem]) -> list[Encoded | Failure]:
        """In order; a clip that cannot be read or gives no finite latents becomes a failure."""
        return [self.encode(item, latent=self.config.store is not False) for item in items]

    def give_up(self, item: EncodeItem, kind: FailureKind, detail: str, attempts: int) -> Failure:
        return Failure(subject=item.clip_id, step=STEP, kind=kind, detail=detail, attempts=attempts)

    def encode(self, item: EncodeItem, *, latent: bool = True) -> Encoded | Failure:
        """One clip, with its latent or with the size of it alone."""
        _, begun = self._opened.pop(id(item), (item, None))
        try:
            opened = self._open(item) if begun is None else begun.result()
            return opened if isinstance(opened, Failure) else self._encoded(item, opened, latent=latent)
        except MediaError as error:
            return error.failure(item.clip_id, STEP)

    def _open(self, item: EncodeItem, *, is_ahead: bool = False) -> _Opened | Failure:
        """Its first frame is decoded, and `is_ahead` more of them in a thread.

        Raises:
            MediaError: it cannot be decoded.
        """
        try:
            data = self._reader.read(item.shard, item.offset, item.size, key=item.clip_id, digest=item.digest)
        except FileNotFoundError as error:
            return Failure(subject=item.clip_id, step=STEP, kind=FailureKind.MISSING, detail=str(error))
        except OSError as error:
            return Failure(subject=item.clip_id, step=STEP, kind=FailureKind.IO, detail=f"{item.shard}: {error}")
        except ValueError as error:  # the shard is shorter than the index says
            return Failure(subject=item.clip_id, step=STEP, kind=FailureKind.TRUNCATED, detail=str(error))
        times = clip_times(data)
        indices, fps = self._chosen(times, is_image=item.kind == "image")
        reading = self._frame_reader.frames(data, times, indices, self._size)
        frames = ahead(reading) if is_ahead else reading
        return _Opened(num_frames=len(indices), fps=fps, frames=frames, reading=reading)

    def _encoded(self, item: EncodeItem, opened: _Opened, *, latent: bool) -> Encoded | Failure:
        frames, num_frames = opened.frames, opened.num_frames
        first = next(frames)
        height, width = first.shape[:2]
        frames, values = chain([first], frames), None
        if latent:
            try:
                values = self._latent(item.clip_id, frames, num_frames)
            except torch.OutOfMemoryError as error:
                detail = f"{num_frames} frames of {width}x{height}: {error}; lower max_area_px or max_frames"
                return Failure(subject=item.clip_id, step=STEP, kind=FailureKind.MODEL, detail=detail)
        for _ in frames:  # what cannot be decoded is found now, not while training
            pass
        if isinstance(values, Failure):
            return values
        return Encoded(
            clip_id=item.clip_id,
            tensors=values,
            shape=latent_shape(self._loaded(), num_frames, height, width),
            num_frames=num_frames,
            height=height,
            width=width,
            fps=opened.fps,
            fallback=opened.reading.fallback,
        )

    def _latent(self, clip_id: str, frames: Iterator[np.ndarray], num_frames: int) -> dict[str, np.ndarray] | Failure:
        """Frames (H, W, 3) uint8 to what is stored of their latent."""
        autoencoder, moments = self._loaded(), self.config.posterior != "mean"
        [latent] = autoencoder.encode_parts(video_parts(frames, num_frames, autoencoder), moments=moments)
        try:
            return arrays(latent, self.config, autoencoder.codebook, clip_id)
        except ValueError as error:
            return Failure(subject=clip_id, step=STEP, kind=FailureKind.MODEL, detail=str(error))

    def _chosen(self, times: ClipTimes, *, is_image: bool) -> tuple[np.ndarray, float]:
        """(T,) numbers of the frames that enter the autoencoder, and their rate."""
        if is_image or len(times.pts) == 1:
            return np.zeros(1, np.int64), 0.0
        indices = times.at(self.config.fps)
        count = usable_frames(min(len(indices), self.config.max_frames), self._loaded().temporal_stride)
        start = (len(indices) - count) // 2
        rate = self.config.fps or _rate(times.starts_s)
        return indices[start : start + count], 0.0 if count == 1 else rate

    def _size(self, height: int, width: int) -> tuple[int, int]:
        config = self.config
        return target_size(height, width, max_area_px=config.max_area_px, multiple_px=config.multiple_px)

    def _loaded(self) -> VideoAutoencoder:
        if self._autoencoder is None:
            self.setup()
        assert self._autoencoder is not None
        return self._autoencoder

    def __getstate__(self) -> dict[str, Any]:
        idle: dict[str, Any] = {"_autoencoder": None, "_opened": {}, "_opener": None}
        kept = {name: getattr(self, name) for name in ("config", "_device", "_reader", "_media", "_frame_reader")}
        return {**kept, **idle}


def target_size(height: int, width: int, *, max_area_px: int, multiple_px: int) -> tuple[int, int]:
    """Height and width, multiples of `multiple_px` within `max_area_px`, nearest to the clip's shape and area.

    Resizing to them changes the aspect ratio slightly. Worst cases over shapes from 1:3 to 3:1 with multiples of 16:
    4 % at 512 x 512 px, 8 % at 256 x 256, 20 % at 128 x 80. A clip of which not even one multiple fits gets one.
    """
    unit = multiple_px
    area = min(max_area_px, height * width)
    aspect = math.log(width / height)

    def cost(size: tuple[int, int]) -> float:
        h, w = size
        return abs(math.log(w / h) - aspect) + AREA_WEIGHT * abs(math.log(w * h / area))

    num_units = max(1, area // unit**2)
    sizes = []
    for rows in range(1, num_units + 1):
        ideal = rows * math.exp(aspect)
        for columns in {math.floor(ideal), math.ceil(ideal), num_units // rows}:
            columns = min(max(1, columns), num_units // rows)
            sizes.append((rows * unit, columns * unit))
    return min(sizes, key=cost)


def to_video(rgb: np.ndarray) -> torch.Tensor:
    """(T, H, W, 3) uint8 -> (1, 3, T, H, W) float32 in [-1, 1]."""
    return _scaled(torch.tensor(rgb).float())


def _scaled(pixels: torch.Tensor) -> torch.Tensor:
    """(T, H, W, 3) float32 of 0 to 255, which is changed, as (1, 3, T, H, W) in [-1, 1]."""
    return pixels.div_(127.5).sub_(1.0).permute(3, 0, 1, 2)[None]


def video_parts(
    frames: Iterator[np.ndarray], num_frames: int, autoencoder: VideoAutoencoder
) -> Iterator[torch.Tensor]:
    """Frames (H, W, 3) uint8 as the parts (1, 3, T, H, W) float32 in [-1, 1] that `encode_parts` takes."""
    step, done = autoencoder.part_frames or num_frames, 0
    size = 1 + step - autoencoder.temporal_stride if autoencoder.part_frames else num_frames
    while done < num_frames:
        size = min(size, num_frames - done)
        pixels: torch.Tensor | None = None
        for number, rgb in enumerate(islice(frames, size)):
            pixels = torch.empty(size, *rgb.shape) if pixels is None else pixels
            pixels[number] = torch.tensor(rgb)
        assert pixels is not None
        yield _scaled(pixels)
        done, size = done + size, step


def encode_start(
    autoencoder: VideoAutoencoder, source: str | bytes, *, size: tuple[int, int], fps: float, max_latent_frames: int
) -> torch.Tensor:
    """What a sampled video begins with, from a picture, or from the last frames of a clip that is to go on.

    Args:
        autoencoder: of the run.
        source: local path, or bytes, of the picture or the clip.
        size: height and width in px; what is left over of another shape is cut off on both sides.
        fps: rate of the video.
        max_latent_frames: take as many frames of the clip as give so many of the latent.

    Returns:
        (C, T, H, W) float32, normalized.

    Raises:
        MediaError: the source is neither.
    """
    times = clip_times(source)
    indices = times.at(None if len(times.pts) == 1 else fps or None)
    most = 1 + autoencoder.temporal_stride * (max_latent_frames - 1)
    indices = indices[-usable_frames(min(len(indices), most), autoencoder.temporal_stride) :]
    frames = clip_frames(source, times, indices)
    return autoencoder.encode(torch.cat([_covering(to_video(rgb[None]), size) for rgb in frames], dim=2))


def _covering(video: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(1, C, T, H, W) cut to the shape of `size` around its middle, and scaled to it."""
    height, width = video.shape[-2:]
    scale = min(height / size[0], width / size[1])
    rows, columns = (max(1, round(side * scale)) for side in size)
    top, left = (height - rows) // 2, (width - columns) // 2
    frames = video[0, :, :, top : top + rows, left : left + columns].transpose(0, 1)  # (T, C, rows, columns)
    scaled = torch.nn.functional.interpolate(frames, size=size, mode="bilinear", antialias=True)
    return scaled.transpose(0, 1)[None]


def decode_latent(autoencoder: VideoAutoencoder, latent: np.ndarray | torch.Tensor) -> np.ndarray:
    """Normalized latent (C, T, H, W) -> (T, H, W, 3) uint8: what sampling ends with."""
    video = autoencoder.decode(torch.as_tensor(latent).float())
    return ((video[0].permute(1, 2, 3, 0) + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()


def _rate(pts_s: np.ndarray) -> float:
    """Frames per second of a clip's own frames."""
    return float((len(pts_s) - 1) / (pts_s[-1] - pts_s[0])) if len(pts_s) > 1 else 0.0
