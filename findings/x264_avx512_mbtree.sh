#!/bin/sh
# Guess: with one thread, libx264 gives equal bytes for equal frames and equal settings.
# Behaviour: on a CPU with AVX-512 it does not, wherever the width in macroblocks is no multiple of 8 (the width is no
# multiple of 128 pixels) and macroblock-tree rate control is on, as it is by default: the bytes change with what was
# in memory before. Without AVX-512 (`asm=AVX2,FMA3,BMI2,LZCNT` in x264-params) the bytes repeat, at the same speed, and
# they are those of AVX and SSE4.2. With `mbtree=0` they repeat, too, and at equal PSNR there are more of them.
# Seen with av 18.1.0 (FFmpeg 8.1.2), on an AMD EPYC with AVX-512; on a CPU without it nothing is shown.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q av==18.1.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

NUM_RUNS = 8
NO_AVX512 = {"x264-params": "asm=AVX2,FMA3,BMI2,LZCNT"}
random = np.random.default_rng(0)


def encoded(width, height, options):
    picture = np.random.default_rng(0).integers(0, 256, (height + 64, width + 64, 3), np.uint8)
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
    codec.time_base, codec.thread_count, codec.options = Fraction(1, 24), 1, {"preset": "veryfast", **options}
    data = b""
    for number in range(24):
        rgb = np.ascontiguousarray(picture[number : number + height, 2 * number : 2 * number + width])
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
        frame.pts = number
        data += b"".join(map(bytes, codec.encode(frame)))
    return data + b"".join(map(bytes, codec.encode()))


def num_distinct(width, height, options):
    found = set()
    for _ in range(NUM_RUNS):
        litter = [np.full(random.integers(1, 10**6), random.integers(256), np.uint8) for _ in range(4)]
        del litter  # memory that is not as it was
        found.add(encoded(width, height, options))
    return len(found)


print("av", av.__version__)
has_avx512 = "avx512f" in Path("/proc/cpuinfo").read_text()
for name, options in {"as it is": {}, "without AVX-512": NO_AVX512, "mbtree=0": {"x264-params": "mbtree=0"}}.items():
    seen = {size: num_distinct(*size, options) for size in ((320, 180), (98, 62), (256, 144), (128, 64))}
    print(f"{name}: different outputs of {NUM_RUNS} runs by size: {seen}")
    is_odd = has_avx512 and not options
    assert (seen[320, 180] > 1 or seen[98, 62] > 1) if is_odd else set(seen.values()) == {1}, "it has changed"
    assert seen[256, 144] == seen[128, 64] == 1
END
