"""An MP4 file in memory: packets of a picture whose times are exact for every reader, and of a sound track."""

import io
from collections.abc import Mapping, Sequence
from fractions import Fraction
from heapq import merge
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av

FINE_CLOCK = 1000
"""Ticks per second from which on a clock is taken into the file as it is."""


class Mp4File:
    """Add streams to `container`, then call `finish` once.

    Of a variable rate the encoder's own decoding times add up to another duration than the frames', and readers that
    trust the header report another rate. So the decoding times are those of presentation, moved back far enough:
    their steps are the frames' durations, in any order of decoding.
    """

    def __init__(self, time_base: Fraction) -> None:
        """`time_base` is the picture's."""
        import av

        self._buffer = io.BytesIO()
        # "bitexact" leaves versions and dates out of the file.
        options = {"fflags": "+bitexact"}
        if time_base.numerator == 1 and time_base.denominator >= FINE_CLOCK:
            # The muxer would multiply a clock of milliseconds by 16, and long frames would not fit into 32 bits.
            options["video_track_timescale"] = str(time_base.denominator)
        self.container = av.open(self._buffer, "w", format="mp4", options=options)

    def finish(
        self, picture: "Sequence[av.Packet]", durations: Mapping[int, int], sound: "Sequence[av.Packet]" = ()
    ) -> bytes:
        """The whole file.

        Args:
            picture: In order of decoding, with the times at which they are shown.
            durations: How long the frame at each of these times is shown.
            sound: In order of decoding.
        """
        shown = sorted(durations)
        pairs = list(zip(picture, shown, strict=True))
        shift = max(pts - (packet.pts or 0) for packet, pts in pairs)
        for packet, pts in pairs:
            # The muxer takes the last packet's for the last step, and the largest end of all for the end of the video.
            packet.duration = durations[shown[-1] if pts == shown[-1] else packet.pts or 0]
            packet.dts = pts - shift
        for packet in merge(picture, sound, key=_decoded_s):
            self.container.mux_one(packet)
        self.container.close()
        return self._buffer.getvalue()


def _decoded_s(packet: "av.Packet") -> float:
    return float((packet.dts or 0) * packet.time_base)
