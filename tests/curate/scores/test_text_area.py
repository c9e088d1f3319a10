import cv2
import numpy as np
import pytest

from curate.encoders.base import EncoderPool
from curate.scores.frames import ClipFrames
from curate.scores.text_area import TextAreaConfig, TextAreaScorer, text_mask

TEXT = "And then the rabbit"


@pytest.fixture(scope="module")
def scorer(embedded_weights: None) -> TextAreaScorer:
    built = TextAreaConfig().build()
    built.setup(EncoderPool())
    return built


def captioned(clip: ClipFrames, scale: float, lines: int = 1) -> ClipFrames:
    frames = clip.rgb.copy()
    for frame in frames:
        for line in range(lines):
            place = (20, 230 - round(45 * scale) * line)
            cv2.putText(
                frame, "And then the rabbit", place, cv2.FONT_HERSHEY_SIMPLEX, scale, (255,) * 3, 2, cv2.LINE_AA
            )
    return ClipFrames(frames)


def test_a_film_without_text_has_none(scorer: TextAreaScorer, film: list[ClipFrames]) -> None:
    assert [score["text_area_max"] for score in scorer.score(film)] == [0, 0, 0]


def test_the_area_is_that_of_the_text_that_was_drawn(scorer: TextAreaScorer, film: list[ClipFrames]) -> None:
    for clip in film:
        height, width = clip.rgb.shape[1:3]
        (text_width, text_height), baseline = cv2.getTextSize(TEXT, cv2.FONT_HERSHEY_SIMPLEX, 0.8, 2)
        drawn = text_width * (text_height + baseline) / (height * width)
        one, three = (score["text_area"] for score in scorer.score([captioned(clip, 0.8), captioned(clip, 0.8, 3)]))
        assert one == pytest.approx(drawn, rel=0.5)
        assert three == pytest.approx(3 * one, rel=0.35)


def test_text_in_some_frames_counts_by_their_share(scorer: TextAreaScorer, film: list[ClipFrames]) -> None:
    plain, text = film[0], captioned(film[0], 0.8)
    middle = len(plain.rgb) // 2
    frames = plain.rgb.copy()
    frames[middle] = text.rgb[middle]  # one of the three that are looked at
    (score,) = scorer.score([ClipFrames(frames)])
    assert score["text_area"] == pytest.approx(score["text_area_max"] / 3)
    assert score["text_area_max"] > 0


def test_a_lone_dark_thing_is_no_line_of_text(scorer: TextAreaScorer) -> None:
    globe = np.zeros((1, 256, 456, 3), np.uint8)
    cv2.circle(globe[0], (228, 128), 100, (40, 30, 20), -1)
    cv2.ellipse(globe[0], (228, 128), (100, 100), 0, 90, 270, (180, 140, 90), 3)
    anything = TextAreaConfig(max_line=10).build()
    anything._model = scorer._model
    assert scorer.score([ClipFrames(globe)])[0]["text_area"] < 0.01
    assert anything.score([ClipFrames(globe)])[0]["text_area"] >= scorer.score([ClipFrames(globe)])[0]["text_area"]


def test_boxes_grow_by_what_training_shrank_them() -> None:
    likely = np.zeros((64, 200), np.float32)
    likely[30:41, 50:151] = 0.9
    margin = 10 * 100 * 1.6 / (2 * 110)
    ys, xs = np.nonzero(text_mask(likely, max_line=1))
    expected = [30 - margin, 40 + margin, 50 - margin, 150 + margin]
    np.testing.assert_allclose([ys.min(), ys.max(), xs.min(), xs.max()], expected, atol=1)
    assert text_mask(likely * 0.5, max_line=1).sum() == 0  # unlikely on average
    assert text_mask(likely, max_line=0.3).sum() == 0  # too high for a line
