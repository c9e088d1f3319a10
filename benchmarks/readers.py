"""Readers of sampled frames side by side, in one run: PyAV as reelpack uses it, decord and torchcodec by themselves,
and both as members of `curate.media.readers`.

    python -m benchmarks.readers [--codecs x264,x265,av1,vp9] [--rounds 5] [--film VIDEO]

clips    bytes of clips as reelpack writes them: 8 frames at short side 256, and all frames in that size
sources  8 frames of each of four stretches of 2-6 s, of pieces of a film of growing length; a reader
         opens the file for each

One thread each; decord is given width and height, so it scales while it decodes, and all frames at once. A figure is
the median over the rounds of CPU milliseconds; in parentheses the ratio to PyAV's. The readers run in turn.
What follows from it: docs/decisions/readers.md.
"""

import argparse
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np

from benchmarks.machine import described
from curate.encoders.fingerprint import library_versions
from curate.media.codecs import EncodeConfig
from curate.media.decode import clip_frames, clip_times, middles
from curate.media.encode import encode_mp4
from curate.media.frames import iter_frames
from curate.media.probe import probe
from curate.media.readers.config import MediaConfig
from curate.media.readers.frames import FrameReader
from curate.media.sample import moments, sample_frames
from curate.schema import Span

DEMO_VIDEO = Path(__file__).parent.parent / "pipelines" / "demo" / "media" / "bbb_a.mp4"
MEMBERS = ("decord", "torchcodec")
CLIPS = {"480p, 3 s": (480, 72), "720p, 5 s": (720, 120)}
LENGTHS_S = (5, 15, 56)
NUM_FRAMES, SHORT_SIDE_PX = 8, 256
SIZE = (256, 456)
Read = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codecs", default="x264,x265,av1,vp9", help="with commas; none for sources alone")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--film", default=str(DEMO_VIDEO), help="what clips and sources are made of")
    arguments = parser.parse_args()
    print(described())
    print(library_versions("av", *MEMBERS))
    readers = {}
    for name in MEMBERS:
        reader = MediaConfig.model_validate({"reader": name}).build()
        try:
            reader.setup()
            readers[name] = reader
        except (ModuleNotFoundError, ValueError) as error:
            print(f"without {name}: {error}")
    for codec in filter(None, arguments.codecs.split(",")):
        for label, (height, count) in CLIPS.items():
            data = _clip(arguments.film, codec, height, count)
            print(f"{codec}, {label}, {len(data) >> 10} KiB")
            for work, num_frames in ((f"{NUM_FRAMES} of {count}", NUM_FRAMES), (f"all {count}", count)):
                _compare(work, _of_clip(data, num_frames, readers), arguments.rounds)
    with tempfile.TemporaryDirectory() as folder:
        for length_s in LENGTHS_S:
            path = _piece(arguments.film, str(Path(folder, f"{length_s}.mp4")), length_s)
            _compare(f"source of {length_s} s", _of_source(path, list(readers)), arguments.rounds)


def _compare(label: str, reads: dict[str, Read], rounds: int) -> None:
    spent: dict[str, list[float]] = {name: [] for name in reads}
    for number in range(rounds + 1):  # the first one warms up
        for name, read in reads.items():
            before = time.process_time()
            read()
            if number:
                spent[name].append(1000 * (time.process_time() - before))
    base = median(spent["pyav"])
    cells = (f"{name} {median(ms):.0f} ({median(ms) / base:.2f})" for name, ms in spent.items())
    print(f"  {label:16}", "   ".join(cells), flush=True)


def _of_clip(data: bytes, num_frames: int, readers: dict[str, FrameReader]) -> dict[str, Read]:
    times = clip_times(data)
    numbers = middles(len(times.pts), num_frames)

    def by_pyav() -> object:
        return list(clip_frames(data, clip_times(data), numbers, SIZE))

    def by_member(reader: FrameReader) -> object:
        return list(reader.frames(data, clip_times(data), numbers, SIZE))

    reads: dict[str, Read] = {"pyav": by_pyav}
    for name, reader in readers.items():
        reading = reader.frames(data, times, numbers, SIZE)
        list(reading)
        if reading.fallback is None:
            reads[f"{name} alone"] = partial(ALONE[name], data, numbers, SIZE)
            reads[name] = partial(by_member, reader)
    return reads


def _of_source(path: str, members: Sequence[str]) -> dict[str, Read]:
    video, frames = probe(path, path, ""), list(iter_frames(path, short_side_px=32))
    starts, rng = [frame.pts for frame in frames], np.random.default_rng(0)
    spans = []
    for _ in range(4):
        length = min(int(int(rng.integers(2, 6)) * video.fps), len(starts) - 1)
        first = int(rng.integers(0, len(starts) - length))
        spans.append(Span(start_pts=starts[first], end_pts=starts[first + length], time_base=video.time_base))
    numbers = [np.searchsorted(starts, moments(span, NUM_FRAMES), side="right") - 1 for span in spans]

    def by_pyav() -> object:
        return [sample_frames(path, span, NUM_FRAMES, short_side_px=SHORT_SIDE_PX) for span in spans]

    def alone(read: Callable[..., object]) -> object:
        return [read(path, of_span, SIZE) for of_span in numbers]

    return {"pyav": by_pyav, **{f"{name} alone": partial(alone, ALONE[name]) for name in members}}


def _decord(source: bytes | str, numbers: Sequence[int] | np.ndarray, size: tuple[int, int]) -> object:
    import decord

    file = io.BytesIO(source) if isinstance(source, bytes) else source
    return decord.VideoReader(file, height=size[0], width=size[1], num_threads=1).get_batch(numbers).asnumpy()


def _torchcodec(source: bytes | str, numbers: np.ndarray, size: tuple[int, int]) -> object:
    from torchcodec.decoders import VideoDecoder
    from torchcodec.transforms import Resize

    decoder = VideoDecoder(source, dimension_order="NHWC", num_ffmpeg_threads=1, transforms=[Resize(size)])
    return decoder.get_frames_at(numbers.tolist()).data.numpy()


ALONE: dict[str, Callable[..., object]] = {"decord": _decord, "torchcodec": _torchcodec}


def _clip(film: str, codec: str, height: int, count: int) -> bytes:
    """The first frames of a film, encoded as reelpack does, or in VP9."""
    width = height * 16 // 9 // 2 * 2
    with av.open(film) as container:
        frames = []
        for frame in container.decode(video=0):
            frames.append(frame.to_ndarray(format="rgb24", width=width, height=height))
            if len(frames) == count:
                break
    rgb = np.stack(frames)
    if codec != "vp9":
        config: dict[str, Any] = {"codec": codec} | ({} if codec == "x264" else {"preset": "ultrafast"})
        return encode_mp4(rgb, 24, EncodeConfig(**config))
    file = io.BytesIO()
    with av.open(file, "w", format="webm") as output:
        stream: Any = output.add_stream("libvpx-vp9", rate=24)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.colorspace = 1  # BT.709, as reelpack tags its clips
        stream.options = {"deadline": "realtime", "cpu-used": "8", "b": "3M"}
        for picture in rgb:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode())
    return file.getvalue()


def _piece(film: str, path: str, length_s: float) -> str:
    """The packets of a film's first seconds."""
    with av.open(film) as source, av.open(path, "w") as target:
        (stream,) = source.streams.video
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is None or packet.pts is None or float(packet.pts * packet.time_base) > length_s:
                continue
            packet.stream = copy
            target.mux(packet)
    return path


if __name__ == "__main__":
    main()
