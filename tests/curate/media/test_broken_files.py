"""Every file that cannot be read ends with the kind that says why, on opening or in the pass, and none hangs."""

import os
import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageOps

from curate.media.frames import iter_frames
from curate.media.probe import content_id, probe
from curate.media.still import read_still
from curate.schema import FailureKind, MediaError


def outcome(path: str) -> FailureKind | int:
    """The kind of failure of a file, or the number of its frames."""
    try:
        probe(path, path, content_id(path))
        return sum(1 for _ in iter_frames(path, short_side_px=32))
    except MediaError as error:
        return error.kind


def with_bytes_replaced(data: bytes, count: int, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    damaged = np.frombuffer(data, np.uint8).copy()
    places = rng.integers(int(len(data) * 0.3), int(len(data) * 0.7), count)
    damaged[places] ^= rng.integers(1, 256, count, dtype=np.uint8)
    return damaged.tobytes()


def with_index_first(path: str, target: str) -> None:
    with av.open(path) as source, av.open(target, "w", options={"movflags": "faststart"}) as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)


def test_what_is_no_file_of_media(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "nowhere")
    (tmp_path / "text.mp4").write_text("this is no video\n" * 40)
    (tmp_path / "text.txt").write_text("a text is a video of a terminal to some\n" * 40)
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(20_000))
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n")
    os.mkfifo(tmp_path / "pipe.mp4")
    expected = {
        "nowhere.mp4": FailureKind.MISSING,
        "dangling.mp4": FailureKind.MISSING,
        "folder.mp4": FailureKind.NOT_MEDIA,
        "pipe.mp4": FailureKind.NOT_MEDIA,
        "empty.mp4": FailureKind.EMPTY_FILE,
        "text.mp4": FailureKind.NOT_MEDIA,
        "text.txt": FailureKind.NOT_MEDIA,
        "noise.mp4": FailureKind.NOT_MEDIA,
        "list.mp4": FailureKind.NOT_MEDIA,
    }
    assert {name: outcome(str(tmp_path / name)) for name in expected} == expected


def test_forbidden_file(tmp_path: Path, numbered, write_video: Callable[..., str]) -> None:
    path = write_video("secret.mp4", numbered.draw(3))
    os.chmod(path, 0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert outcome(path) is FailureKind.PERMISSION


def test_operating_system_refusal_is_a_permission_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Root may read everything, so the refusal of the system call stands in for a forbidden file.
    path = tmp_path / "secret.mp4"
    path.write_bytes(b"x")

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    assert outcome(str(path)) is FailureKind.PERMISSION


def test_sound_only(write_sound: Callable[[str], str]) -> None:
    assert outcome(write_sound("sound.mp4")) is FailureKind.NO_VIDEO_STREAM


def test_stream_without_frames(tmp_path: Path) -> None:
    path = str(tmp_path / "none.mkv")
    with av.open(path, "w") as output:
        stream = output.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.open()
        output.start_encoding()
    assert outcome(path) is FailureKind.NO_FRAMES


def test_unknown_codec(tmp_path: Path, numbered, write_video: Callable[..., str]) -> None:
    data = Path(write_video("known.mp4", numbered.draw(3))).read_bytes()
    (tmp_path / "unknown.mp4").write_bytes(data.replace(b"avc1", b"zzzz"))
    assert outcome(str(tmp_path / "unknown.mp4")) is FailureKind.UNKNOWN_CODEC


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("name", ["index_last.mp4", "index_first.mp4", "a.mkv", "a.avi"])
def test_cut_off_file_is_truncated_wherever_it_ends(
    tmp_path: Path, numbered, write_video: Callable[..., str], name: str, share: float
) -> None:
    path = write_video(name, numbered.draw(48), codec="mpeg4" if name.endswith("avi") else "libx264")
    if name == "index_first.mp4":
        with_index_first(path, path + ".mp4")
        path += ".mp4"
    assert outcome(path) == 48
    data = Path(path).read_bytes()
    (tmp_path / "cut.bin").write_bytes(data[: int(len(data) * share)])
    assert outcome(str(tmp_path / "cut.bin")) is FailureKind.TRUNCATED


@pytest.mark.parametrize("name", ["a.ts", "a.mpg"])
def test_broadcast_recording_may_stop_anywhere(
    tmp_path: Path, numbered, write_video: Callable[..., str], name: str
) -> None:
    encoding = {"codec": "mpeg2video", "options": {"b": "2000000"}} if name == "a.mpg" else {}
    path = write_video(name, numbered.draw(48), container={"a.ts": "mpegts", "a.mpg": "mpeg"}[name], **encoding)
    data = Path(path).read_bytes()
    (tmp_path / "cut.bin").write_bytes(data[: int(len(data) * 0.6)])
    for _ in range(5):  # damage is found or not by no race between the decoder's threads
        rgb = np.stack([frame.rgb for frame in iter_frames(str(tmp_path / "cut.bin"), short_side_px=96)])
        assert 10 < len(rgb) < 40
        assert numbered.read(rgb) == list(range(len(rgb)))


@pytest.mark.parametrize("count", [40, 400])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_damage_in_the_middle_is_corrupt_and_never_half_a_film(
    tmp_path: Path, numbered, write_video: Callable[..., str], name: str, count: int
) -> None:
    encoding = {"a.ts": {"container": "mpegts"}, "a.avi": {"codec": "mpeg4", "options": {"b": "3000000"}}}.get(
        name, {}
    )
    data = Path(write_video(name, numbered.draw(96), **encoding)).read_bytes()
    for seed in range(3):
        (tmp_path / "damaged.bin").write_bytes(with_bytes_replaced(data, count, seed))
        assert outcome(str(tmp_path / "damaged.bin")) is FailureKind.CORRUPT


def test_huge_declared_duration_does_not_matter(tmp_path: Path, numbered, write_video: Callable[..., str]) -> None:
    data = bytearray(Path(write_video("a.mkv", numbered.draw(12))).read_bytes())
    place = data.index(b"\x44\x89\x88") + 3  # Matroska's Duration, a float of milliseconds
    data[place : place + 8] = struct.pack(">d", 1e12)
    (tmp_path / "huge.mkv").write_bytes(data)
    declared_s = probe(str(tmp_path / "huge.mkv"), "", "").duration_s
    assert declared_s is not None and declared_s > 1e8
    assert outcome(str(tmp_path / "huge.mkv")) == 12


@pytest.mark.parametrize("name", ["a b.mp4", "new\nline.mp4", "ü日本.mp4", "http:x.mp4", "frame%03d.mp4", "-o.mp4"])
def test_names_are_only_names(
    numbered, write_video: Callable[..., str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(write_video("plain.mp4", numbered.draw(5))).parent)
    os.rename("plain.mp4", name)
    assert outcome(name) == 5


def test_images(tmp_path: Path, numbered) -> None:
    image = Image.fromarray(numbered.draw(1)[0])
    for extension in ("jpg", "png", "webp"):
        path = tmp_path / f"image.{extension}"
        image.save(path)
        assert probe(str(path), "", "").kind == "image"
        assert outcome(str(path)) == 1
        (tmp_path / "cut.bin").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert outcome(str(tmp_path / "cut.bin")) is FailureKind.TRUNCATED


def test_animated_webp_is_refused_rather_than_halved(tmp_path: Path, numbered) -> None:
    first, *rest = [Image.fromarray(frame) for frame in numbered.draw(5)]
    first.save(tmp_path / "a.webp", save_all=True, append_images=rest)
    assert outcome(str(tmp_path / "a.webp")) is FailureKind.UNKNOWN_CODEC


def test_time_limit(numbered, write_video: Callable[..., str]) -> None:
    path = write_video("a.mp4", numbered.draw(12))
    with pytest.raises(MediaError) as error:
        list(iter_frames(path, short_side_px=32, time_limit_s=1e-9))
    assert error.value.kind is FailureKind.TIMEOUT


@pytest.mark.parametrize("extension", ["jpg", "webp"])
def test_images_with_malformed_tags_are_seen_upright(tmp_path: Path, numbered, extension: str) -> None:
    exif = Image.Exif()
    exif[270], exif[274], exif[282] = "text", 6, 72.0
    picture, path = Image.fromarray(numbered.draw(1)[0]), tmp_path / f"image.{extension}"
    picture.save(path, exif=exif)
    upright = read_still(str(path))
    data = bytearray(path.read_bytes())
    place = next(data.index(entry) for entry in (b"\x01\x1a\x00\x05", b"\x1a\x01\x05\x00") if entry in data)
    data[place + 2 : place + 4] = struct.pack(">H" if data[place] else "<H", 1)  # a ratio is said to be bytes
    path.write_bytes(data)
    assert outcome(str(path)) == 1
    assert np.array_equal(read_still(str(path)), upright)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_are_those_of_pillow(tmp_path: Path, numbered, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(numbered.draw(1)[0][:, :-7]).save(tmp_path / "image.png", exif=exif)
    with Image.open(tmp_path / "image.png") as image:
        assert np.array_equal(read_still(str(tmp_path / "image.png")), np.asarray(ImageOps.exif_transpose(image)))
