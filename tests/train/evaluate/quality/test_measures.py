"""Distances, matches, motion and memorization: closed forms, and other implementations."""

import numpy as np
import pytest
import torch

from train.evaluate.bootstrap import bootstrap, bootstrap_of_mean
from train.evaluate.frechet import Gaussian, frechet_distance, frechet_infinity, frechet_of_sets
from train.evaluate.kernel import Kernels, kernel_distance
from train.evaluate.quality.motion import movement
from train.evaluate.quality.nearest import nearest, suspects
from train.evaluate.quality.text import match

DRAWS = {"num_draws": 200, "confidence": 0.95, "seed": 0}


def normal(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("count", "width"), [(12, 40), (60, 8)])
def test_the_distance_of_sets_is_that_of_their_gaussians(count: int, width: int) -> None:
    x, y = normal(count, width), 1.5 * normal(count + 5, width, 1) + 0.3
    assert frechet_of_sets(x, y) == pytest.approx(frechet_distance(Gaussian.of(x), Gaussian.of(y)), rel=1e-6)
    assert frechet_of_sets(x, x) == pytest.approx(0, abs=1e-8)


def test_it_is_that_of_scipys_matrix_root() -> None:
    sqrtm = pytest.importorskip("scipy.linalg").sqrtm
    x, y = normal(80, 6) @ normal(6, 6, 2), normal(90, 6, 1)
    a, b = np.cov(x.numpy().astype(float), rowvar=False), np.cov(y.numpy().astype(float), rowvar=False)
    wanted = float((x.double().mean(0) - y.double().mean(0)).square().sum()) + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_of_sets(x, y) == pytest.approx(wanted, rel=1e-6)


def test_distances_grow_with_noise() -> None:
    x = normal(200, 8)
    noisy = [x + amount * normal(200, 8, 1) for amount in (0.0, 0.5, 1.0, 2.0)]
    for distance in (frechet_of_sets, kernel_distance):
        found = [distance(x, one) for one in noisy]
        assert found == sorted(found) and found[-1] > 0.5


def test_the_extrapolated_distance_has_less_bias() -> None:
    plain, extrapolated = [], []
    for seed in range(5):
        x, y = normal(160, 8, 2 * seed), normal(160, 8, 2 * seed + 1)
        plain.append(frechet_of_sets(x, y))
        extrapolated.append(frechet_infinity(x, y, torch.Generator().manual_seed(0)))
    assert abs(np.mean(extrapolated)) < 0.4 * np.mean(plain)


def test_the_kernel_distance_is_that_of_a_double_loop() -> None:
    x, y = normal(5, 3).double(), normal(7, 3, 1).double()

    def kernel(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a @ b / 3 + 1) ** 3)

    within = sum(kernel(x[i], x[j]) for i in range(5) for j in range(5) if i != j) / 20
    other = sum(kernel(y[i], y[j]) for i in range(7) for j in range(7) if i != j) / 42
    between = sum(kernel(a, b) for a in x for b in y) / 35
    assert kernel_distance(x, y) == pytest.approx(within + other - 2 * between)
    twice = torch.tensor([0, 0, 1, 2])  # a sample is never paired with itself
    pairs = [(i, j) for i in twice.tolist() for j in twice.tolist() if i != j]
    drawn = sum(kernel(x[i], x[j]) for i, j in pairs) / len(pairs)
    between = sum(kernel(x[i], b) for i in twice.tolist() for b in y) / 28
    assert Kernels.of(x, y).distance(twice) == pytest.approx(drawn + other - 2 * between)


def test_the_kernel_distance_of_few_samples_has_no_bias() -> None:
    found = [kernel_distance(normal(8, 16, 2 * seed), normal(8, 16, 2 * seed + 1)) for seed in range(300)]
    assert abs(np.mean(found)) < 3 * np.std(found) / 300**0.5


def test_an_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    values = normal(400, 1)[:, 0]
    found, error = bootstrap_of_mean(values, **DRAWS), 1.96 * float(values.std()) / 20
    assert found.value == pytest.approx(float(values.mean()))
    assert found.high - found.value == pytest.approx(error, rel=0.25)
    assert found.value - found.low == pytest.approx(error, rel=0.25)


def test_the_interval_of_a_biased_statistic_holds_its_estimate() -> None:
    x, y = normal(30, 20), normal(30, 20, 1)
    found = bootstrap(lambda i, j: frechet_of_sets(x[i], y[j]), [30, 30], **DRAWS)
    assert found.value == pytest.approx(frechet_of_sets(x, y)) and found.low < found.value < found.high


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_videos_under_their_own_prompts_match_better_than_shuffled() -> None:
    rng = np.random.default_rng(0)
    texts = unit(rng.standard_normal((12, 16)))
    videos = [unit(text + 0.3 * rng.standard_normal((4, 16))) for text in texts]
    prompts = [str(number) for number in range(12)]
    found = match(videos, texts, prompts, 999)
    assert found.own == pytest.approx([(frames @ text).mean() for frames, text in zip(videos, texts, strict=True)])
    assert found.first == 1 and found.p_value == pytest.approx(1 / 1000) and found.own.mean() > found.shuffled + 0.3
    wrong = match(videos[1:] + videos[:1], texts, prompts, 999)
    assert wrong.p_value > 0.2 and wrong.first == 0


def test_p_values_of_videos_that_show_anything_are_uniform() -> None:
    rng = np.random.default_rng(0)
    draws = [(unit(rng.standard_normal((8, 1, 6))), unit(rng.standard_normal((8, 6)))) for _ in range(100)]
    found = [match(list(videos), texts, list("abcdefgh"), 99).p_value for videos, texts in draws]
    assert 0.4 < np.mean(found) < 0.6 and np.mean(np.array(found) <= 0.1) < 0.2


def test_equal_prompts_have_no_other() -> None:
    texts = unit(np.ones((3, 4)))
    found = match([texts[:1]] * 3, texts, ["x"] * 3, 99)
    assert (found.shuffled, found.first, found.p_value) == (None, None, 1.0)


def moving(speed: int, frames: int = 9) -> np.ndarray:
    """Texture that moves to the right by so many pixels per frame: (T, 64, 64, 3)."""
    import cv2

    noise = np.random.default_rng(0).integers(0, 256, (64, 160, 3), dtype=np.uint8)
    texture = cv2.GaussianBlur(noise, (0, 0), 3).astype(float)
    texture = (255 * (texture - texture.min()) / np.ptp(texture)).astype(np.uint8)
    return np.stack([texture[:, 80 - speed * t : 144 - speed * t] for t in range(frames)])


def test_motion_is_that_of_a_known_speed_and_a_still_video_has_none() -> None:
    found = {speed: movement(moving(speed), fps=8.0) for speed in (1, 2, 4)}
    for speed, one in found.items():
        assert one["motion"] == pytest.approx(speed * 8 / 64, rel=0.2)
    assert found[1]["change"] < found[2]["change"] < found[4]["change"]
    still = movement(moving(0), fps=8.0)
    assert still["motion"] < 0.01 and (still["change"], still["flicker"], still["frozen"]) == (0, 0, 1)
    assert movement(moving(0, 1), fps=8.0) == {}


def test_flicker_is_change_that_turns_back() -> None:
    ramp = np.repeat(np.arange(10, 90, 10, np.uint8)[:, None, None, None], 32, 1).repeat(32, 2).repeat(3, 3)
    blinking = ramp.copy()
    blinking[1::2] = 0
    smooth, rough = movement(ramp, 8.0), movement(blinking, 8.0)
    assert smooth["flicker"] == 0 < smooth["change"]
    assert rough["flicker"] > 0.1


def test_what_all_clips_have_in_common_makes_none_of_them_near() -> None:
    videos, training = normal(6, 12, 1), normal(50, 12)
    shift = torch.full((12,), 100.0)
    plain, shifted = nearest(videos, training), nearest(videos + shift, training + shift)
    assert torch.equal(plain.clip, shifted.clip)
    torch.testing.assert_close(plain.distance, shifted.distance, atol=1e-4, rtol=0)


def test_a_copied_clip_is_found_and_new_ones_are_as_far_as_held_out_ones() -> None:
    training = normal(50, 12)
    copied = torch.cat([training[[7]] + 0.01 * normal(1, 12, 3), normal(9, 12, 4)])
    found, usual = nearest(copied, training), nearest(normal(200, 12, 5), training)
    assert found.clip[0] == 7 and found.distance[0] < 0.01 < found.distance[1:].min()
    assert suspects(found, usual).tolist()[0] and suspects(found, usual)[1:].sum() <= 2
