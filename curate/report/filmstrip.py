"""Film strips: a few frames of a clip side by side in one JPEG, as a data: URI."""

import base64
import io
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.media.decode import decode_clip
from curate.media.fetch import local_copy
from curate.media.sample import sample_frames
from curate.schema import MediaError, Span
from curate.shards.tar import TarReader, read_member
from curate.threads import import_decoders

NUM_FRAMES = 4
SHORT_SIDE_PX = 144
JPEG_QUALITY = 72
NUM_THREADS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """`num_frames` frames of equal size, left to right, in one JPEG; `ratio` is the width of one over its height."""

    uri: str
    num_frames: int
    ratio: float


def strips_of_clips(
    rows: Iterable[Mapping[str, Any]], members: Mapping[str, Mapping[str, Any]], shards_url: str, num_frames: int
) -> dict[str, Strip | str]:
    """Clip id → its strip, or why there is none.

    Args:
        rows: rows of clips.parquet; a clip may come twice.
        members: clip id → row of the index, for the clips that are cut.
        shards_url: folder of the shards.
        num_frames: frames per strip.
    """
    chosen = {row["clip_id"]: row for row in rows}
    import_decoders()
    with ThreadPoolExecutor(NUM_THREADS) as pool:  # decoders work outside the interpreter's lock
        strips = pool.map(
            lambda row: strip_of_clip(row, members.get(row["clip_id"]), TarReader(shards_url), num_frames),
            chosen.values(),
        )
        return dict(zip(chosen, strips, strict=True))


def strip_of_clip(
    row: Mapping[str, Any], member: Mapping[str, Any] | None, shards: TarReader, num_frames: int
) -> Strip | str:
    """Frames of a clip: from its shard where it is cut (`member`), else from its span of the source video.

    Returns:
        The strip, or why there is none.
    """
    try:
        if member is not None:
            payload = read_member(shards, member)
            frames = decode_clip(payload, num_frames=min(num_frames, member["num_frames"])).rgb
        else:
            span = Span(start_pts=row["start_pts"], end_pts=row["end_pts"], time_base=Fraction(row["time_base"]))
            count = min(num_frames, row["num_frames"])
            with local_copy(row["video_uri"]) as path:
                frames = sample_frames(path, span, count, short_side_px=SHORT_SIDE_PX).rgb
    except MediaError as error:
        return f"no picture: {error.kind} ({error.detail})"
    except (OSError, ValueError) as error:
        return f"no picture: {error}"
    return strip_of_frames(frames)


def strip_of_frames(frames: npt.NDArray[np.uint8]) -> Strip:
    """Frames `(T, H, W, 3)` uint8 RGB, made no taller or wider than the report needs."""
    from PIL import Image

    count, height, width, _ = frames.shape
    scale = min(1.0, SHORT_SIDE_PX / min(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    sheet = Image.new("RGB", (size[0] * count, size[1]))
    for index, frame in enumerate(frames):
        sheet.paste(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS), (index * size[0], 0))
    return Strip(uri=_jpeg(sheet), num_frames=count, ratio=size[0] / size[1])


def _jpeg(image: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return data_uri("image/jpeg", buffer.getvalue())


def data_uri(media_type: str, payload: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(payload).decode()}"


def payload_of(uri: str) -> bytes:
    """The counterpart of `data_uri`."""
    return base64.b64decode(uri.partition(",")[2])
