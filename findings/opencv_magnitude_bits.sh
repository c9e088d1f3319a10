#!/bin/sh
# Guess: an elementwise function gives equal bits for equal values, wherever its arrays are in memory.
# Behaviour: cv2.magnitude of float32 does not. Where its result begins relative to a multiple of 64 bytes decides the last
# bits of the last elements, where their number is no multiple of a vector's length. The allocator chooses that place:
# the same call with the same arrays gives other bits from time to time, and what follows from them, such as sums and
# thresholds, differs from run to run. numpy's sqrt(x * x + y * y) gives equal bits at every place.
# So: compute in numpy what must be equal to the bit, such as cached measurements and results that tests compare.
# Seen with opencv-python-headless 5.0.0.93, numpy 2.4.6, on x86-64.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q opencv-python-headless==5.0.0.93 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import sys

import cv2
import numpy as np

print("opencv", cv2.__version__, "numpy", np.__version__)
cv2.setNumThreads(1)
PLACES = range(0, 64, 4)


def at(values, place):
    """The same values, beginning so many bytes after a multiple of 64."""
    buffer = np.empty(values.nbytes + 128, np.uint8)
    first = -buffer.ctypes.data % 64 + place
    moved = buffer[first : first + values.nbytes].view(values.dtype).reshape(values.shape)
    moved[...] = values
    return moved


rng = np.random.default_rng(0)
x, y = rng.normal(size=(2, 3256)).astype(np.float32)
functions = {
    "cv2.magnitude": lambda result: cv2.magnitude(x, y, result),
    "numpy sqrt": lambda result: np.sqrt(x * x + y * y, out=result),
}
found = {name: len({function(at(np.zeros_like(x), place)).tobytes() for place in PLACES}) for name, function in functions.items()}
for name, count in found.items():
    print(f"{name}: {count} different results at {len(PLACES)} places")
sys.exit(0 if found["cv2.magnitude"] > 1 and found["numpy sqrt"] == 1 else 1)
END
