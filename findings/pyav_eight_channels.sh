#!/bin/sh
# Guess: a planar audio frame of PyAV has as many planes as channels, so `AudioFrame.from_ndarray` takes 7.1 sound as it
# takes 5.1.
# Behaviour: a planar frame of eight channels says that it has nine planes, and `from_ndarray` of eight rows raises
# IndexError. Seven channels and packed formats work. What reads 7.1 sound and hands it to a filter or an encoder mixes
# it down first, or packs it.
# Seen with av 18.1.0 (FFmpeg 8.1.2), numpy 2.4.6.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q av==18.1.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import av
import numpy as np

print("av", av.__version__, "FFmpeg", av.ffmpeg_version_info, "numpy", np.__version__)


def made(layout, num_channels, format="fltp"):
    rows = np.zeros((num_channels, 1024) if format == "fltp" else (1, num_channels * 1024), np.float32)
    try:
        return av.AudioFrame.from_ndarray(rows, format, layout).samples
    except IndexError as error:
        return error


for layout, num_channels in (("5.1", 6), ("6.1", 7), ("7.1", 8)):
    planes = len(av.AudioFrame(format="fltp", layout=layout, samples=1024).planes)
    print(f"{layout}: {num_channels} channels, {planes} planes, from_ndarray: {made(layout, num_channels)!r}")
print("7.1 packed, from_ndarray:", repr(made("7.1", 8, "flt")))
assert len(av.AudioFrame(format="fltp", layout="6.1", samples=1024).planes) == 7, "the behaviour has changed"
assert len(av.AudioFrame(format="fltp", layout="7.1", samples=1024).planes) == 9, "the behaviour has changed"
assert isinstance(made("7.1", 8), IndexError) and made("6.1", 7) == 1024, "the behaviour has changed"
assert made("7.1", 8, "flt") == 1024, "the behaviour has changed"
END
