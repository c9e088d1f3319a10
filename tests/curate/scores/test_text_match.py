from collections.abc import Callable

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from curate.encoders.base import EncoderPool
from curate.encoders.conse import ConseConfig, ConseEncoder
from curate.media.sample import sample_frames
from curate.scores.frames import ClipFrames
from curate.scores.score import ScoreItem
from curate.scores.text_match import TextMatchConfig, TextMatchScorer

Build = Callable[..., TextMatchScorer]


@pytest.fixture(scope="module")
def frames(items: list[ScoreItem]) -> list[ClipFrames]:
    return [ClipFrames(sample_frames(item.path, item.clip.span, 4, short_side_px=256).rgb) for item in items]


@pytest.fixture(scope="module")
def conse(embedded_weights: None, encoders: EncoderPool) -> ConseEncoder:
    return encoders.load(ConseConfig().build())


@pytest.fixture(scope="module")
def scorer(encoders: EncoderPool) -> Callable[..., TextMatchScorer]:
    def build(**lists: tuple[str, ...]) -> TextMatchScorer:
        built = TextMatchConfig(**lists).build()  # type: ignore[arg-type]
        built.setup(encoders)
        return built

    return build


def test_values_are_means_over_frames_of_the_best_cosine(
    scorer: Build, conse: ConseEncoder, frames: list[ClipFrames]
) -> None:
    wanted, unwanted = ("a rabbit", "a bird"), ("a page of text", "a logo", "a map")
    for clip, got in zip(frames, scorer(wanted=wanted, unwanted=unwanted).score(frames), strict=True):
        sums = {"wanted": 0.0, "unwanted": 0.0}
        for frame in clip.rgb:
            image = conse.embed_images(frame[None])[0]
            for name, texts in (("wanted", wanted), ("unwanted", unwanted)):
                sums[name] += max(float(image @ conse.embed_texts([text])[0]) for text in texts)
        best, worst = sums["wanted"] / len(clip.rgb), sums["unwanted"] / len(clip.rgb)
        expected = {"text_match": best - worst, "wanted_best": best, "unwanted_best": worst}
        assert got == pytest.approx(expected, abs=1e-4)


def test_the_film_matches_animals_and_not_traffic(scorer: Build, frames: list[ClipFrames]) -> None:
    animals, traffic = ("a rabbit", "an animal"), ("a sports car on a street", "skyscrapers at night")
    rabbit = frames[:1]
    assert scorer(wanted=animals, unwanted=traffic).score(rabbit)[0]["text_match"] > 0.1
    assert scorer(wanted=traffic, unwanted=animals).score(rabbit)[0]["text_match"] < -0.1


def test_pages_of_text_fall_far_below_the_film_by_default(scorer: Build, frames: list[ClipFrames]) -> None:
    page = np.full((1, 256, 456, 3), 255, np.uint8)
    for line in range(10):
        text = ("Chapter one: how the rabbit came", "to the meadow and what he saw")[line % 2]
        cv2.putText(page[0], text, (20, 30 + 25 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    scores = scorer().score([*frames, ClipFrames(page), ClipFrames(255 - page)])
    *film, white, black = (score["text_match"] for score in scores)
    assert max(white, black) < -0.2 < -0.1 < min(film)


def test_one_list_may_be_empty(scorer: Build, frames: list[ClipFrames]) -> None:
    got = scorer(wanted=(), unwanted=("a logo",)).score(frames[:1])[0]
    assert got["wanted_best"] == 0
    assert got["text_match"] == -got["unwanted_best"] != 0


def test_two_empty_lists_are_refused() -> None:
    with pytest.raises(ValidationError, match="both empty"):
        TextMatchConfig(wanted=(), unwanted=())
