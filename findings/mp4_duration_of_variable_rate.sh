#!/bin/sh
# Guess: frames that are encoded with `pts` and `duration` become an MP4 that declares what they last together, so that
# readers report frames over duration as its average rate.
# Behaviour, for a variable rate: (1) PyAV's encoder gives every packet duration 0, and the last
# frame lasts a tick of the rate: 4.49 s are declared as 3.02 s. (2) Where the durations are put on the packets, the
# duration is right, and without B-frames the rate is too. With B-frames the rate is not (4.96 for 7.13 frames/s): it
# is made of the steps between decoding times, and x264's first steps repeat those of presentation. Times of frames are
# right in all files. (3) Packets whose decoding times are the sorted presentation times, moved back far enough, have
# both right.
# Seen with av 18.1.0 (FFmpeg 8.1.2, libx264), numpy 2.4.6; OpenCV and ffprobe report the same rates.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q av==18.1.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import io
from fractions import Fraction

import av
import numpy as np

print("av", av.__version__, "FFmpeg", av.ffmpeg_version_info)
TICK = Fraction(1, 1000)
DURATIONS = [2000, *[33] * 30, 1500]
STARTS = np.cumsum([0, *DURATIONS])[:-1].tolist()


def declared(b_frames, durations, times):
    buffer, packets = io.BytesIO(), []
    with av.open(buffer, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.time_base = TICK
        stream.options = {"bf": str(b_frames), "threads": "1"}
        for number, (start, duration) in enumerate(zip(STARTS, DURATIONS, strict=True)):
            picture = np.full((64, 64, 3), 40, np.uint8)
            picture[:, number : number + 20] = 220
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.duration, frame.time_base = start, duration, TICK
            packets += stream.encode(frame)
        packets += stream.encode()
        assert {packet.duration for packet in packets} == {0}, "the behaviour has changed"
        back = max(start - packet.pts for start, packet in zip(STARTS, packets, strict=True))
        for start, packet in zip(STARTS, packets, strict=True):
            if durations:
                packet.duration = DURATIONS[STARTS.index(packet.pts)]
            if times:
                packet.dts = start - back
                packet.duration = DURATIONS[-1] if start == STARTS[-1] else packet.duration
            output.mux_one(packet)
    with av.open(io.BytesIO(buffer.getvalue())) as reader:
        stream = reader.streams.video[0]
        seconds, rate = float(stream.duration * stream.time_base), float(stream.average_rate)
        shown = sorted(packet.pts for packet in reader.demux(stream) if packet.size)
        last_s = float((shown[-1] - shown[0]) * stream.time_base)
    how = f"bf={b_frames} durations={durations} times={times}"
    print(f"{how}: last frame at {last_s:.3f} s, {seconds:.3f} s, {rate:.2f}/s")
    return seconds, rate, round(last_s, 3)


true_s = sum(DURATIONS) / 1000
print(f"true: last frame at {STARTS[-1] / 1000:.3f} s, {true_s:.3f} s, {len(DURATIONS) / true_s:.2f}/s")
lazy, plain = declared(0, False, False), declared(0, True, False)
reordered, repaired = declared(2, True, False), declared(2, True, True)
assert all(found[2] == STARTS[-1] / 1000 for found in (lazy, plain, reordered, repaired)), "the behaviour has changed"
true_rate = len(DURATIONS) / true_s
assert abs(lazy[0] - true_s) > 1, "the behaviour has changed"
assert abs(reordered[0] - true_s) < 0.002 and abs(reordered[1] - true_rate) > 1, "the behaviour has changed"
for found in (plain, repaired):
    assert abs(found[0] - true_s) < 0.002 and abs(found[1] - true_rate) < 0.01, "the behaviour has changed"
END
