"""Made films as files: several codecs, rates and qualities, and variable frame rates."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np

from curate.media.scheduling import own_scheduling

Codec = Literal["h264", "hevc", "vp9", "av1"]
ENCODERS: Mapping[Codec, tuple[str, Mapping[str, str]]] = {
    "h264": ("libx264", {"preset": "veryfast"}),
    "hevc": ("libx265", {"preset": "ultrafast", "x265-params": "log-level=error"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "b": "0"}),
    "av1": ("libsvtav1", {"preset": "12"}),
}


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How a film is encoded. `crf` is the codec's own scale; `vfr` shows each frame for 1 to 3 times its duration."""

    codec: Codec = "h264"
    crf: int = 20
    vfr: bool = False
    gop: int = 96


def write_film(frames: Iterator[np.ndarray], path: Path, rate: Fraction, encoding: Encoding) -> None:
    """`(height, width, 3)` uint8 RGB frames with even sides → a file of the container that the path's suffix names."""
    import av

    name, options = ENCODERS[encoding.codec]
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream: Any = None
        pts = 0
        for rgb in frames:
            if stream is None:
                stream = container.add_stream(name, rate=rate, options={**options, "crf": str(encoding.crf)})
                stream.height, stream.width, stream.pix_fmt = *rgb.shape[:2], "yuv420p"
                stream.codec_context.gop_size = encoding.gop
                stream.time_base = stream.codec_context.time_base = 1 / rate
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            picture.pts, picture.time_base = pts, 1 / rate
            with own_scheduling():
                container.mux(stream.encode(picture))
            pts += int(rng.integers(1, 4)) if encoding.vfr else 1
        container.mux(stream.encode())
