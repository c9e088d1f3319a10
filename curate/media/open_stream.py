"""Opens the main video stream of a file, and tells its decoder how to read it."""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from curate.media.container import missing_bytes
from curate.media.limits import check_size
from curate.media.opening import open_container
from curate.media.video_stream import choose_main_stream
from curate.schema import FailureKind, MediaError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

MARGIN_PX = 256
"""Decoders align and pad the sides of a frame by less."""


@dataclass(frozen=True, slots=True)
class OpenStream:
    """A stream, its container, and the file that is closed after the container, if there is one."""

    container: "InputContainer"
    stream: "VideoStream"
    file: io.FileIO | None

    def close(self) -> None:
        _close(self.container, self.file)


def open_stream(
    source: str | bytes,
    name: str,
    *,
    index: int | None,
    time_limit_s: float | None,
    max_pixels: int,
    is_sparse: bool,
) -> OpenStream:
    """Opens a local path, or a file's bytes.

    Args:
        source: The path or the bytes.
        name: For messages.
        index: Of the main stream; None: it is looked for.
        time_limit_s: Wall-clock seconds for opening, and for each wait for data later; None: no limit.
        max_pixels: Of one frame.
        is_sparse: Without the decoder's loop filter.

    Raises:
        MediaError: As `open_container` and `choose_main_stream`; TOO_LARGE; TRUNCATED, the file lacks its index.
    """
    container, file = _container(source, name, time_limit_s, max_pixels)
    try:
        if index is None:
            main, has_read = choose_main_stream(name, container)
            index = main.index
            if has_read:
                _close(container, file)
                container, file = _container(source, name, time_limit_s, max_pixels)
        stream = cast("VideoStream", container.streams[index])
        codec = stream.codec_context
        check_size(name, codec.width, codec.height, max_pixels)
    except MediaError:
        _close(container, file)
        raise
    # The frame size can change within a stream. Decoders count margins too.
    most_pixels = max_pixels + (codec.width + codec.height) * MARGIN_PX + MARGIN_PX**2
    codec.options = {"max_pixels": str(most_pixels)} | ({"skip_loop_filter": "all"} if is_sparse else {})
    # By one thread: with frame threads the H.264 decoder reads a frame's damage while another thread is still
    # finding it, and with slice threads it leaves damaged parts as the memory was. The same file is now this, now
    # that. Files are read side by side instead.
    codec.thread_count = 1
    return OpenStream(container, stream, file)


def _container(
    source: str | bytes, name: str, time_limit_s: float | None, max_pixels: int
) -> "tuple[InputContainer, io.FileIO | None]":
    try:
        return open_container(source, name, time_limit_s=time_limit_s, max_pixels=max_pixels)
    except MediaError as error:
        if isinstance(source, str) and error.kind is FailureKind.NOT_MEDIA and (shortfall := missing_bytes(source)):
            raise MediaError(FailureKind.TRUNCATED, f"{name}: {shortfall}") from error
        raise


def _close(container: "InputContainer", file: io.FileIO | None) -> None:
    container.close()
    if file is not None:
        file.close()
