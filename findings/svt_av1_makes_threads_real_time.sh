#!/bin/sh
# Guess: an encoder runs at the priority of the process that opens it.
# Behaviour: for root, as in most containers, libsvtav1 makes its threads real-time (SCHED_FIFO, priority 99), and the
# thread that opens it as well. That thread stays real-time after the encoder is closed: whatever the process computes
# afterwards comes before every ordinary process of the machine. libx264, libx265 and libvpx leave priorities alone.
# Who encodes AV1 in a worker sets the policy back (`os.sched_setscheduler`) once the encoder is open.
# Seen with av 18.1.0 (FFmpeg 8.1.2, its SVT-AV1). Not shown without the right to raise priorities (CAP_SYS_NICE).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q av==18.1.0 numpy==2.4.6
SVT_LOG=1 "$folder/venv/bin/python" - <<'END'
import os
import sys

import av
import numpy as np

NAMES = {os.SCHED_OTHER: "ordinary", os.SCHED_FIFO: "real-time"}
print("av", av.__version__, "FFmpeg", av.ffmpeg_version_info)
try:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))
except PermissionError:
    print("this process has no right to raise priorities: nothing to show")
    sys.exit(0)
os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def policy_after(encoder):
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    with av.open("/dev/null", "w", format="matroska") as container:
        stream = container.add_stream(encoder, rate=24, options={"x265-params": "log-level=none"})
        stream.width = stream.height = 128
        stream.pix_fmt = "yuv420p"
        for level in range(0, 120, 20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((128, 128, 3), level, np.uint8))))
        container.mux(stream.encode())
    return os.sched_getscheduler(0), os.sched_getparam(0).sched_priority


found = {encoder: policy_after(encoder) for encoder in ("libx264", "libx265", "libvpx-vp9", "libsvtav1")}
os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
for encoder, (policy, priority) in found.items():
    print(f"{encoder}: the calling thread is {NAMES[policy]}, priority {priority}")
assert found.pop("libsvtav1") == (os.SCHED_FIFO, 99), "the behaviour has changed"
assert set(found.values()) == {(os.SCHED_OTHER, 0)}, "the behaviour has changed"
END
