"""Generated inputs: a small mixed corpus of what a folder of videos holds, and one of everything that is broken.

    python -m tests.support.corpus FOLDER

Drawn and encoded in seconds by PyAV, apart from the code that is tested on them; the same pictures every time.
"""

import os
import struct
import sys
import wave
import zlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.support.scorers import only

MANY_PARTS = {
    "score.scorers": only(static_overlay={}, brisque={}),
    "shards.clips_per_shard": 3,
    "execute.publish_every_s": 0.05,
    "scan.time_limit_s": 60,
}
"""Many small parts and shards, so that there is much to interrupt."""

FPS = 12
HEIGHT, WIDTH = 96, 160

# --- the mixed corpus


def mixed_corpus(folder: Path) -> None:
    """Sixteen files that a run should tell apart: shots, shapes, copies, images, stills, darkness, and four broken."""
    (folder / "more of them").mkdir(parents=True)
    shots = np.concatenate([shot(1, 1.5), shot(2, 2.0), shot(3, 1.2)])
    write(folder / "shots.mp4", shots)
    write(folder / "shots at low quality.mp4", shots, options={"crf": "34", "preset": "veryfast"})
    write(folder / "shots small.mkv", shots[:, ::2, ::2])
    (folder / "more of them" / "exact copy.mp4").write_bytes((folder / "shots.mp4").read_bytes())
    write(folder / "portrait.mp4", shot(4, 2.0, height=160, width=96))
    write(folder / "letterbox.mp4", np.pad(shot(5, 2.0, height=64), ((0, 0), (16, 16), (0, 0), (0, 0))))
    write(folder / "static.mp4", shot(6, 0.1).repeat(2 * FPS, 0)[: 2 * FPS])
    write(folder / "black.mp4", np.zeros((2 * FPS, HEIGHT, WIDTH, 3), np.uint8))
    write(folder / "more of them" / "two shots.webm", np.concatenate([shot(7, 1.2), shot(8, 1.6)]), codec="libvpx-vp9")
    write(folder / "too short.mp4", shot(9, 0.4))
    for seed, name in ((10, "photo.png"), (11, "more of them/photo.jpg")):
        save_image(folder / name, shot(seed, 0.1)[0])
    whole = (folder / "shots.mp4").read_bytes()
    (folder / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "flipped.mp4").write_bytes(flipped(whole, 200, seed=1))
    (folder / "text.mp4").write_text("this is no video\n" * 20)
    (folder / "empty.mp4").touch()


def write_sidecar(folder: Path, target: Path) -> None:
    """A CSV with columns of the user's own for some files of the mixed corpus."""
    rows = [("shots.mp4", "Shots, three", "CC0"), ("more of them/exact copy.mp4", "A copy", "CC0"),
            ("portrait.mp4", "Upright", "CC BY 4.0"), ("photo.png", "A “photo”", "")]  # fmt: skip
    lines = [f'{folder / name},"{title}",{licence}' for name, title, licence in rows]
    target.write_text("\n".join(["path,title,licence", *lines]) + "\n")


# --- the broken corpus


def broken_corpus(folder: Path) -> dict[str, Path]:
    """One file per kind of trouble. Returns its name → the path, beside `good.mp4`, in which nothing is wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "good.mp4", shot(1, 1.5))
    for make in (_damaged, _mistaken, _extreme_pictures, _wrong_clocks, _odd_names, _not_plain_files):
        make(folder)
    files = (path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    return {str(path.relative_to(folder)): path for path in sorted(files)}


def _damaged(folder: Path) -> None:
    whole = (folder / "good.mp4").read_bytes()
    for percent in (10, 60, 99):
        (folder / f"truncated_{percent}.mp4").write_bytes(whole[: len(whole) * percent // 100])
    for seed in range(8):
        (folder / f"flipped_{seed}.mp4").write_bytes(flipped(whole, 40, seed, start=0.0, end=1.0))
    write(folder / "source.mkv", shot(1, 1.5))
    for seed in range(4):
        damaged = flipped((folder / "source.mkv").read_bytes(), 60, seed)
        (folder / f"flipped_{seed}.mkv").write_bytes(damaged)
    (folder / "zero_length.mp4").touch()
    (folder / "one_byte.mp4").write_bytes(b"\0")
    (folder / "zeros.mp4").write_bytes(bytes(50_000))
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(50_000))
    (folder / "noise.mpg").write_bytes(b"\0\0\1\xba" + np.random.default_rng(1).bytes(50_000))


def _mistaken(folder: Path) -> None:
    whole = (folder / "good.mp4").read_bytes()
    (folder / "video_named.jpg").write_bytes(whole)
    (folder / "video_named.txt").write_bytes(whole)
    save_image(folder / "image.png", shot(2, 0.1)[0])
    (folder / "image_named.mp4").write_bytes((folder / "image.png").read_bytes())
    (folder / "text.mp4").write_text("this is no video\n" * 40)
    (folder / "notes.txt").write_text("neither is this\n" * 40)
    with wave.open(str(folder / "audio_only.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16_000))
    (folder / "audio_only.mp4").write_bytes((folder / "audio_only.wav").read_bytes())
    # Lists that name other files must not be followed.
    listed = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\ngood.mp4\n#EXT-X-ENDLIST\n"
    (folder / "playlist.m3u8").write_text(listed)
    (folder / "playlist.mp4").write_text(listed)
    (folder / "list.ffconcat").write_text("ffconcat version 1.0\nfile good.mp4\n")
    (folder / "concat.mp4").write_text("ffconcat version 1.0\nfile good.mp4\n")


def _extreme_pictures(folder: Path) -> None:
    write(folder / "one_frame.mp4", shot(3, 0.1)[:1])
    write(folder / "one_pixel.mkv", np.full((3 * FPS, 1, 1, 3), 90, np.uint8), codec="ffv1", pixel_format="bgr0")
    tall = shot(4, 1.5, height=FPS * 100, width=2)
    write(folder / "two_pixels_wide.mp4", tall)
    frames = (picture.repeat(45, 0).repeat(45, 1) for picture in shot(4, 1.0, width=7680 // 45 + 1)[::4])
    picture_8k = (frame[:4320, :7680] for frame in frames)
    write(folder / "8k.mp4", picture_8k, fps=2, size=(4320, 7680), options={"crf": "30", "preset": "ultrafast"})
    # One shot whose picture changes its size half-way.
    whole = shot(5, 5.0)
    first, then = whole[: len(whole) // 2], whole[len(whole) // 2 :]
    pairs = {"grows": (first, _doubled(then)), "shrinks": (_doubled(first), then)}
    for name, pair in pairs.items():
        parts = [_without_file(folder / "part.h264", part, container="h264") for part in pair]
        (folder / f"size_{name}.h264").write_bytes(b"".join(parts))
    (folder / "image_cut.png").write_bytes((folder / "image.png").read_bytes()[:300])
    # Its header declares ten thousand million pixels.
    png = (folder / "image.png").read_bytes()
    at = png.index(b"IHDR")
    header = b"IHDR" + struct.pack(">II", 100_000, 100_000) + png[at + 12 : at + 17]
    huge = png[:at] + header + struct.pack(">I", zlib.crc32(header)) + png[at + 21 :]
    (folder / "image_huge.png").write_bytes(huge)


def _wrong_clocks(folder: Path) -> None:
    frames = shot(7, 2.0)
    count = len(frames)
    middle = count // 2
    jumps = {"jumps_ahead": 10**6, "jumps_far_ahead": 10**9, "gap": 40 * FPS}
    for name, jump in jumps.items():
        write(folder / f"{name}.mkv", frames, pts=[n + (n >= middle) * jump for n in range(count)], num_b_frames=0)
    part = _without_file(folder / "part.ts", frames, container="mpegts")
    (folder / "time_restarts.ts").write_bytes(part + part)
    # 33 bits of a 90 kHz clock end in the middle of the film.
    start = 2**33 - 90_000
    wrap = [start + n * 90_000 // FPS for n in range(count)]
    write(folder / "clock_wraps.ts", frames, container="mpegts", pts=wrap, time_base=Fraction(1, 90_000))
    mp4 = _without_file(folder / "clock.mp4", frames)
    (folder / "negative_times.mp4").write_bytes(_negative_offsets(mp4))
    (folder / "huge_duration.mp4").write_bytes(_patch(mp4, b"mvhd", 4 + 16, struct.pack(">I", 0x7FFFFFFF)))
    (folder / "zero_timescale.mp4").write_bytes(_patch(mp4, b"mdhd", 4 + 12, struct.pack(">I", 0)))
    (folder / "huge_sample_count.mp4").write_bytes(_patch(mp4, b"stsz", 4 + 8, struct.pack(">I", 2**31 - 1)))
    mkv = _without_file(folder / "clock.mkv", frames)
    (folder / "huge_duration.mkv").write_bytes(_patch(mkv, b"\x44\x89\x88", 3, struct.pack(">d", 1e12)))
    avi = _without_file(folder / "clock.avi", frames, codec="mpeg4")
    # Of the main header the microseconds per frame, of the stream's header the scale and the rate.
    (folder / "zero_fps.avi").write_bytes(_patch(_patch(avi, b"avih", 8, bytes(4)), b"strh", 8 + 20, bytes(8)))
    (folder / "zero_rate.avi").write_bytes(_patch(avi, b"strh", 8 + 24, bytes(4)))


def _odd_names(folder: Path) -> None:
    whole = (folder / "good.mp4").read_bytes()
    names = ["a b.mp4", "new\nline.mp4", "ü日本🎬.mp4", "http:x.mp4", "frame%03d.mp4", "-o.mp4", "[1-3]*?.mp4",
             "quote'\".mp4", "a" * 240 + ".mp4", "no_extension", "UPPER.MP4"]  # fmt: skip
    for number, name in enumerate(names):
        (folder / name).write_bytes(whole + _free_box(number))
    (folder / os.fsdecode(b"caf\xe9.mp4")).write_bytes(whole)
    (folder / "folder.mp4").mkdir()
    (folder / "folder.mp4" / "inside.mp4").write_bytes(whole + _free_box(len(names)))


def _not_plain_files(folder: Path) -> None:
    (folder / "dangling.mp4").symlink_to(folder / "nowhere.mp4")
    (folder / "circle.mp4").symlink_to(folder / "circle.mp4")
    (folder / "linked.mp4").symlink_to(folder / "good.mp4")
    (folder / "unreadable.mp4").write_bytes((folder / "good.mp4").read_bytes() + _free_box(99))
    (folder / "unreadable.mp4").chmod(0)
    os.mkfifo(folder / "pipe.mp4")


# --- pictures and files


def shot(seed: int, seconds: float, *, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """One random picture that slides by a pixel per frame, `(T, height, width, 3)` uint8 at `FPS`."""
    count = max(1, round(seconds * FPS))
    rng = np.random.default_rng(seed)
    cells = rng.integers(30, 226, (height // 16 + 1, (width + count) // 16 + 1, 3), dtype=np.uint8)
    picture = cells.repeat(16, 0).repeat(16, 1)[:height]
    return np.stack([picture[:, shift : shift + width] for shift in range(count)])


def write(
    path: Path,
    frames: Any,
    *,
    fps: int = FPS,
    size: tuple[int, int] | None = None,
    codec: str = "libx264",
    container: str | None = None,
    pixel_format: str = "yuv420p",
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    num_b_frames: int = 2,
    options: dict[str, str] | None = None,
) -> None:
    """Encode frames, each `(H, W, 3)` uint8; `size` is `(H, W)` where `frames` is no array."""
    base = time_base or Fraction(1, fps)
    with av.open(str(path), "w", format=container, options={"fflags": "+bitexact"}) as output:
        stream: Any = output.add_stream(codec, rate=fps)
        stream.height, stream.width = size or frames.shape[1:3]
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = base
        stream.codec_context.gop_size = FPS
        stream.codec_context.max_b_frames = num_b_frames if codec == "libx264" else 0
        stream.codec_context.thread_count = 1
        quality = {"libx264": {"crf": "16", "preset": "veryfast"}, "libvpx-vp9": {"deadline": "realtime", "b": "400k"}}
        # x264's macroblock-tree rate control gives other bytes from call to call.
        steady = {"mbtree": "0"} if codec == "libx264" else {}
        stream.options = (options or quality.get(codec, {})) | steady
        for number, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            frame.pts, frame.time_base = (number if pts is None else pts[number]), base
            output.mux(stream.encode(frame))
        output.mux(stream.encode())


def _without_file(path: Path, frames: np.ndarray, **encoding: Any) -> bytes:
    """What `write` would leave there."""
    write(path, frames, **encoding)
    data = path.read_bytes()
    path.unlink()
    return data


def _doubled(frames: np.ndarray) -> np.ndarray:
    return frames.repeat(2, 1).repeat(2, 2)


def save_image(path: Path, rgb: np.ndarray) -> None:
    from PIL import Image

    Image.fromarray(rgb).save(path)


def flipped(data: bytes, num_bytes: int, seed: int, *, start: float = 0.3, end: float = 0.7) -> bytes:
    """`data` with that many bytes changed between two fractions of its length."""
    rng = np.random.default_rng(seed)
    damaged = np.frombuffer(data, np.uint8).copy()
    places = rng.integers(int(len(data) * start), int(len(data) * end), num_bytes)
    damaged[places] ^= rng.integers(1, 256, num_bytes, dtype=np.uint8)
    return damaged.tobytes()


def _patch(data: bytes, tag: bytes, offset: int, value: bytes) -> bytes:
    """`value` over what stands `offset` bytes after the first `tag`."""
    place = data.index(tag) + offset
    return data[:place] + value + data[place + len(value) :]


def _negative_offsets(mp4: bytes) -> bytes:
    """Presentation times before zero: every composition offset of `ctts`, in its signed version 1, is minus two s."""
    place = mp4.index(b"ctts") + 4
    (count,) = struct.unpack(">I", mp4[place + 4 : place + 8])
    (timescale,) = struct.unpack(">I", mp4[(at := mp4.index(b"mdhd") + 16) : at + 4])
    entries = bytearray(mp4[place + 8 : place + 8 + 8 * count])
    for row in range(count):
        (offset,) = struct.unpack(">i", entries[8 * row + 4 : 8 * row + 8])
        entries[8 * row + 4 : 8 * row + 8] = struct.pack(">i", offset - 2 * timescale)
    mp4 = mp4.replace(b"edts", b"free")  # an edit list would cut them off
    return mp4[:place] + b"\1\0\0\0" + mp4[place + 4 : place + 8] + bytes(entries) + mp4[place + 8 + len(entries) :]


def _free_box(number: int) -> bytes:
    """An empty box at an MP4's end: other content, the same film."""
    return struct.pack(">I4sI", 12, b"free", number)


def main() -> None:
    folder = Path(sys.argv[1])
    makers: dict[str, Callable[[Path], object]] = {"mixed": mixed_corpus, "broken": broken_corpus}
    for name, make in makers.items():
        make(folder / name)
        print(folder / name)


if __name__ == "__main__":
    main()
