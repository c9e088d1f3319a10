#!/bin/sh
# Guess: decord's `get_batch` gives the frames of the numbers that it is given, in every file that decord decodes right
# from its start: its documentation says that the seek is accurate.
# Behaviour: in HEVC as x265 writes it unasked (open groups of pictures) frames behind a key frame are others, without an
# error: the frames that are shown before that key frame and cannot be decoded after a seek are counted as if they had
# come out. With closed groups (open-gop=0) the same code is right. What samples HEVC with decord trains on other frames
# than it says; reelpack reads such files with PyAV (curate/media/readers).
# Seen with decord 0.6.0, av 18.1.0 (x265 of its wheel), numpy 2.4.6.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q av==18.1.0 decord==0.6.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'END'
import av
import decord
import numpy as np

NUM_FRAMES, NUM_BITS = 60, 6


def drawn(number):
    """A frame that shows its number as bars."""
    bits = [number >> bit & 1 for bit in range(NUM_BITS)]
    return np.repeat(np.array([[[20 + 200 * bit] * 3 for bit in bits]], np.uint8), 96, 0).repeat(32, 1)


def written(name, open_gop):
    with av.open(name, "w") as output:
        stream = output.add_stream("libx265", rate=24)
        stream.height, stream.width, stream.pix_fmt = 96, 32 * NUM_BITS, "yuv420p"
        stream.options = {"preset": "ultrafast", "x265-params": f"keyint=12:open-gop={open_gop}:log-level=none"}
        for number in range(NUM_FRAMES):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(drawn(number), format="rgb24")))
        output.mux(stream.encode())
    return name


def read(frames):
    return [sum(int(frame[48, 32 * bit + 16].mean() > 120) << bit for bit in range(NUM_BITS)) for frame in frames]


asked = [3, 17, 31, 46, 58]
for open_gop in (1, 0):
    name = written(f"{open_gop}.mp4", open_gop)
    whole = decord.VideoReader(name, num_threads=1)
    in_order = read(whole.next().asnumpy() for _ in range(NUM_FRAMES))
    got = read(decord.VideoReader(name, num_threads=1).get_batch(asked).asnumpy())
    print(f"open-gop={open_gop}: from the start right: {in_order == list(range(NUM_FRAMES))}; asked {asked}, got {got}")
    assert in_order == list(range(NUM_FRAMES)), "the behaviour has changed"
    assert (got != asked) == bool(open_gop), "the behaviour has changed"
END
