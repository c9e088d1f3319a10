"""Loudness and silence of known sound."""

from fractions import Fraction

import numpy as np
import pytest

from curate.media.probe import probe
from curate.media.sound import Sound, SoundTrack
from curate.schema import Clip, FailureKind, MediaError, Span
from curate.scores.config import ScoreConfig
from curate.scores.frames import ClipFrames
from curate.scores.score import ScoreItem, ScoreStage, contained
from curate.scores.sound import SoundConfig
from tests.support.numbered import encode

RATE = 48000
RGB = np.zeros((1, 8, 8, 3), np.uint8)


def tone(seconds: float, amplitude: float, channels: int = 2) -> np.ndarray:
    """A sine of 1 kHz, which K-weighting leaves as it is."""
    wave = amplitude * np.sin(2 * np.pi * 1000 * np.arange(round(seconds * RATE)) / RATE)
    return np.tile(wave.astype(np.float32), (channels, 1))


def clip_of(path: str, span: Span) -> Clip:
    return Clip(
        clip_id=str(span.start_pts), video_id="", video_uri=path, kind="video", span=span, fps=Fraction(24), width=160,
        height=96, num_frames=48,
    )  # fmt: skip


def values(samples: np.ndarray | None, duration_s: float) -> dict:
    sound = None
    if samples is not None:
        layout = {1: "mono", 2: "stereo"}[len(samples)]
        track = SoundTrack(codec="aac", rate=RATE, channels=len(samples), layout=layout, track=0, num_tracks=1)
        sound = Sound(track=track, samples=samples)
    (found,) = SoundConfig().build().score([ClipFrames(RGB, duration_s, lambda: sound)])
    return found


@pytest.mark.parametrize("amplitude", [0.01, 0.1, 1.0])
def test_a_sine_in_both_channels_has_the_loudness_of_its_level(amplitude: float) -> None:
    found = values(tone(3, amplitude), 3)
    # ITU-R BS.1770-4: a full-scale sine of 1 kHz in one channel is -3.01 LUFS, in two it is 0.
    assert found["loudness"] == pytest.approx(20 * np.log10(amplitude), abs=0.1)
    assert found["silence_fraction"] == 0
    assert values(tone(3, amplitude, 1), 3)["loudness"] == pytest.approx(20 * np.log10(amplitude) - 3.01, abs=0.1)


def test_silence_counts_the_time_without_sound_also_where_the_track_ends_early() -> None:
    half = np.concatenate([tone(2, 0.1), np.zeros((2, 2 * RATE), np.float32)], axis=1)
    assert values(half, 4)["silence_fraction"] == pytest.approx(0.5)
    assert values(tone(1, 0.1), 4)["silence_fraction"] == pytest.approx(0.75)
    for samples in (np.zeros((2, RATE), np.float32), None):
        assert (values(samples, 1)["loudness"], values(samples, 1)["silence_fraction"]) == (-70, 1)


def test_the_stage_reads_the_sound_of_the_clip_alone(tmp_path, numbered) -> None:
    path = tmp_path / "film.mp4"
    encode(path, numbered.draw(96), with_sound=True, clicks_s=(2.5, 2.6, 2.7), sound_rate=16000)
    stage = ScoreStage(ScoreConfig(scorers={"sound": SoundConfig()}))
    stage.setup()
    base = probe(str(path), str(path), "").time_base
    spans = [
        Span(start_pts=round(first / 24 / base), end_pts=round(end / 24 / base), time_base=base)
        for first, end in ((0, 48), (48, 96))
    ]
    silent, loud = stage.process([ScoreItem(clip=clip_of(str(path), span), path=str(path)) for span in spans])
    (quiet,), (sounding,) = silent.values.values(), loud.values.values()
    assert (quiet["loudness"], quiet["silence_fraction"]) == (-70, 1)
    assert sounding["loudness"] > -45 and 0.8 < sounding["silence_fraction"] < 1
    assert (sounding["audio_codec"], sounding["audio_channels"], sounding["audio_rate"]) == ("aac", 1, 16000)


def test_a_track_that_cannot_be_read_is_a_failure_of_this_clip() -> None:
    def broken() -> Sound:
        raise MediaError(FailureKind.CORRUPT, "no")

    well, bad = ClipFrames(RGB, 1.0), ClipFrames(RGB, 1.0, broken)
    results = contained(SoundConfig().build(), [well, bad, well])
    assert isinstance(results[1], MediaError) and results[0] == results[2] == values(None, 1)
