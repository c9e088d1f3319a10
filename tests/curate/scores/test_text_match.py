import numpy as np
import pytest
from pydantic import ValidationError

from curate.encoders.conse import ConseConfig
from curate.media.sample import sample_frames
from curate.scores.score import ScoreItem
from curate.scores.text_match import TextMatchConfig, TextMatchScorer


@pytest.fixture(scope="module")
def frames(items: list[ScoreItem]) -> list[np.ndarray]:
    return [sample_frames(item.path, item.clip.span, 4, short_side_px=256).rgb for item in items]


def scorer(*, wanted: tuple[str, ...], unwanted: tuple[str, ...]) -> TextMatchScorer:
    built = TextMatchConfig(wanted=wanted, unwanted=unwanted).build()
    built.setup()
    return built


def test_values_are_means_over_frames_of_the_best_cosine(embedded_weights: None, frames: list[np.ndarray]) -> None:
    wanted, unwanted = ("a rabbit", "a bird"), ("a page of text", "a logo", "a map")
    encoder = ConseConfig().build()
    encoder.setup()
    for clip, got in zip(frames, scorer(wanted=wanted, unwanted=unwanted).score(frames), strict=True):
        sums = {"wanted": 0.0, "unwanted": 0.0}
        for frame in clip:
            image = encoder.embed_images(frame[None])[0]
            for name, texts in (("wanted", wanted), ("unwanted", unwanted)):
                sums[name] += max(float(image @ encoder.embed_texts([text])[0]) for text in texts)
        best, worst = sums["wanted"] / len(clip), sums["unwanted"] / len(clip)
        expected = {"text_match": best - worst, "wanted_best": best, "unwanted_best": worst}
        assert got == pytest.approx(expected, abs=1e-4)


def test_the_film_matches_animals_and_not_traffic(embedded_weights: None, frames: list[np.ndarray]) -> None:
    animals, traffic = ("a rabbit", "an animal"), ("a sports car on a street", "skyscrapers at night")
    rabbit = frames[:1]
    assert scorer(wanted=animals, unwanted=traffic).score(rabbit)[0]["text_match"] > 0.1
    assert scorer(wanted=traffic, unwanted=animals).score(rabbit)[0]["text_match"] < -0.1


def test_one_list_may_be_empty(embedded_weights: None, frames: list[np.ndarray]) -> None:
    got = scorer(wanted=(), unwanted=("a logo",)).score(frames[:1])[0]
    assert got["wanted_best"] == 0
    assert got["text_match"] == -got["unwanted_best"] != 0


def test_two_empty_lists_are_refused() -> None:
    with pytest.raises(ValidationError, match="both empty"):
        TextMatchConfig(wanted=(), unwanted=())
