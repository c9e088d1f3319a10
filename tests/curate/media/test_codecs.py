"""Every codec of clips: exact frames, equal bytes, 10 bits and HDR where wanted; what was written is read back."""

from collections.abc import Callable

import numpy as np
import pytest

from curate.media import cut as cutting
from curate.media.codecs import CODECS, EncodeConfig
from curate.media.cut import CutConfig, cut_clip
from curate.media.decode import decode_clip
from curate.media.probe import probe
from curate.media.written import check_written
from curate.schema import FailureKind, MediaError, Span

HDR = {
    "codec": "libx265", "pixel_format": "yuv420p10le", "num_b_frames": None,
    "options": {
        "preset": "ultrafast",
        "x265-params": "log-level=none:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc",
    },
}  # fmt: skip


def span_of(path: str, first: int, end: int) -> Span:
    base = probe(path, path, "").time_base
    return Span(start_pts=round(first / 24 / base), end_pts=round(end / 24 / base), time_base=base)


@pytest.mark.parametrize("codec", CODECS)
def test_a_clip_has_the_frames_of_its_span_and_the_same_bytes_each_time(
    codec: str, numbered, write_video: Callable[..., str]
) -> None:
    path = write_video("film.mp4", numbered.draw(40))
    config = CutConfig(codec=codec, preset="ultrafast")
    clips = [cut_clip(path, span_of(path, 7, 33), config) for _ in range(2)]
    assert clips[0].data == clips[1].data
    assert numbered.read(decode_clip(clips[0].data).rgb) == list(range(7, 33))
    assert clips[0].written.codec == {"x264": "h264", "x265": "hevc", "av1": "av1"}[codec]


@pytest.mark.parametrize("codec", CODECS)
def test_ten_bits_and_hdr_are_kept_where_asked_for_and_recorded(
    codec: str, numbered, write_video: Callable[..., str]
) -> None:
    path = write_video("hdr.mp4", numbered.draw(12), **HDR)
    kept, mapped = (
        cut_clip(path, span_of(path, 0, 12), CutConfig(codec=codec, preset="ultrafast", keep_depth=keep))
        for keep in (True, False)
    )
    assert (kept.written.pixel_format, kept.written.color_transfer) == ("yuv420p10le", "smpte2084")
    assert (mapped.written.pixel_format, mapped.written.color_transfer) == ("yuv420p", "bt709")
    # Readers of the clip map the kept one to the same picture.
    difference = decode_clip(kept.data).rgb.astype(int) - decode_clip(mapped.data).rgb
    assert np.abs(difference).mean() < 6


def test_a_quality_beyond_the_scale_of_the_codec_is_refused() -> None:
    with pytest.raises(ValueError, match="crf 55: x265 takes 0 to 51"):
        EncodeConfig(codec="x265", crf=55)
    assert EncodeConfig(codec="av1", crf=55).options["crf"] == "55"


def test_a_clip_with_other_frames_than_its_source_is_a_mismatch(
    numbered, write_video: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video("film.mp4", numbered.draw(20))
    clip = cut_clip(path, span_of(path, 2, 12), CutConfig(preset="ultrafast"))
    dark = np.zeros((32, 32, 3), np.uint8)
    right = [np.asarray(decode_clip(clip.data).rgb[at, ::3, ::5]) for at in (0, -1)]
    assert right[0].shape == (32, 32, 3)
    check_written(path, clip.data, 10, *right)
    for num_frames, first, last, said in (
        (11, *right, "has 10 frames, its source 11"),
        (10, dark, right[1], "the first frame of the clip differs"),
        (10, right[0], dark, "the last frame of the clip differs"),
    ):
        with pytest.raises(MediaError, match=said) as told:
            check_written(path, clip.data, num_frames, first, last)
        assert told.value.kind is FailureKind.MISMATCH
    other = cut_clip(path, span_of(path, 2, 11), CutConfig(preset="ultrafast"))
    monkeypatch.setattr(cutting.Mp4Encoder, "finish", lambda *_: other.data)
    with pytest.raises(MediaError, match="has 9 frames, its source 10"):
        cut_clip(path, span_of(path, 2, 12), CutConfig(preset="ultrafast"))


def test_the_coarsest_quality_is_no_mismatch(write_video: Callable[..., str]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (12, 96, 160, 3), dtype=np.uint8)
    path = write_video("noise.mp4", noise)
    assert cut_clip(path, span_of(path, 0, 12), CutConfig(crf=51, preset="ultrafast")).num_frames == 12
