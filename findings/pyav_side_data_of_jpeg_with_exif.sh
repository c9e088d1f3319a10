#!/bin/sh
# Guess: `VideoFrame.side_data` of PyAV gives what a frame carries, and a name or None for what PyAV does not know; so
# `frame.side_data.get("DISPLAYMATRIX")` is the way to the display matrix (mirrored videos need it: `frame.rotation` has
# the angle only).
# Behaviour: one entry that PyAV's enum has no name for makes every access raise ValueError, `len` and `get` of another
# type included. FFmpeg 8 attaches EXIF (31) to each frame of a Motion JPEG video whose JPEGs have it, as cameras
# write them. `frame.rotation` still works there.
# Seen with av 18.1.0 (FFmpeg 8.1.2), pillow 13.0.0.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q av==18.1.0 pillow==13.0.0
"$folder/venv/bin/python" - "$folder" <<'END'
import io
import sys
from fractions import Fraction

import av
import PIL
from PIL import Image

print("av", av.__version__, "FFmpeg", av.ffmpeg_version_info, "pillow", PIL.__version__)


def film(path, exif):
    buffer = io.BytesIO()
    Image.new("RGB", (64, 32)).save(buffer, "JPEG", exif=exif)
    with av.open(path, "w") as output:
        stream = output.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuvj420p"
        packet = av.Packet(buffer.getvalue())
        packet.pts = packet.dts = 0
        packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 10), stream, True
        output.mux(packet)
    with av.open(path) as reader:
        return next(reader.decode(video=0))


def matrix(frame):
    try:
        return frame.side_data.get("DISPLAYMATRIX")
    except ValueError as error:
        return error


exif = Image.Exif()
exif[274] = 6  # turned by a quarter
plain, turned = film(f"{sys.argv[1]}/plain.mkv", Image.Exif()), film(f"{sys.argv[1]}/turned.mkv", exif)
print("without EXIF:", plain.rotation, repr(matrix(plain)))
print("with EXIF:", turned.rotation, repr(matrix(turned)))
assert matrix(plain) is None and plain.rotation == 0, "the behaviour has changed"
assert isinstance(matrix(turned), ValueError) and turned.rotation == -90, "the behaviour has changed"
END
