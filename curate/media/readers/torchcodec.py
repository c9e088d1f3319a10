"""torchcodec: by the FFmpeg libraries of the system, or by NVDEC on a GPU.

It says when each frame that it gives is shown, and that is compared with the packets: a frame of another time is never
handed over.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from curate.encoders import torchvision_cpu
from curate.encoders.fingerprint import library_versions
from curate.media.decode import ClipTimes, Size
from curate.media.readers.base import NotReadError, StreamFacts, batches, common_limits

if TYPE_CHECKING:
    import torch

CODECS = frozenset({"h264", "hevc", "vp8", "vp9", "av1"})
TIME_SLACK_S = 5e-4
"""Between two times of one frame: torchcodec gives seconds in double precision; no two frames are so near."""


class TorchcodecDecoder:
    name: ClassVar[str] = "torchcodec"

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    @property
    def key(self) -> str:
        versions = " ".join(f"{name}={version}" for name, version in self.libraries.items())
        return (versions or self.name) + ("" if self.device == "cpu" else f" {self.device}")

    @property
    def libraries(self) -> Mapping[str, str]:
        return library_versions("torchcodec")

    def setup(self) -> None:
        import torch

        torchvision_cpu.repair()  # torchcodec imports torchvision where it is installed
        try:
            import torchcodec.decoders  # noqa: F401
        except (RuntimeError, OSError) as error:
            version = self.libraries.get("torchcodec")
            raise ValueError(
                f"media.reader=torchcodec: torchcodec {version} does not load. It needs FFmpeg's shared libraries (4 "
                "to 8; Debian: apt install ffmpeg) and a torch that it was built for (constraints.txt); "
                "media.reader=pyav needs neither"
            ) from error
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("media.device=cuda: torch finds no CUDA device; expected one, or media.device=cpu")

    def cannot_read(self, stream: StreamFacts) -> str | None:
        if stream.codec not in CODECS:
            return f"the codec is {stream.codec}"
        if stream.shape.mirrored:
            return "it is mirrored"
        if self.device == "cuda" and (stream.bits > 8 or stream.shape.rotation):
            return "it is rotated or of more than 8 bits, on a GPU"
        return common_limits(stream)

    def decode(
        self, source: str | bytes, stream: StreamFacts, numbers: np.ndarray, size: Size
    ) -> Iterator[np.ndarray]:
        from torchcodec.decoders import VideoDecoder
        from torchcodec.transforms import Resize

        on_cpu = self.device == "cpu"
        try:
            decoder: Any = VideoDecoder(
                source if isinstance(source, bytes) else f"file:{source}",
                stream_index=stream.index,
                dimension_order="NHWC" if on_cpu else "NCHW",
                num_ffmpeg_threads=1,
                device=self.device,
                transforms=[Resize(size)] if on_cpu else None,  # which it has on a CPU only
            )
            if len(decoder) != len(stream.times.pts):
                raise NotReadError("torchcodec counts other frames")
            for batch in batches(numbers, size):
                frames = decoder.get_frames_at(batch.tolist())
                _check_times(frames.pts_seconds.cpu().numpy(), stream.times, batch)
                yield from (frames.data if on_cpu else _scaled(frames.data, size)).numpy()
        except (RuntimeError, ValueError, IndexError) as error:
            raise NotReadError(f"torchcodec fails ({type(error).__name__})") from error


def _check_times(pts_s: np.ndarray, times: ClipTimes, numbers: np.ndarray) -> None:
    """Raises NotReadError where frames are not those of the packets with these numbers."""
    wanted_s = times.pts[numbers] * float(times.time_base)
    if np.abs(pts_s - wanted_s).max() > TIME_SLACK_S:
        raise NotReadError("torchcodec gives other frames")


def _scaled(frames: "torch.Tensor", size: Size) -> "torch.Tensor":
    """(N, 3, H, W) uint8 on a GPU → (N, height, width, 3) uint8 on the CPU."""
    import torch

    scaled = torch.nn.functional.interpolate(frames.float(), size=size, mode="bilinear", antialias=True)
    return scaled.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu()
