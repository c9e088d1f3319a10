"""The progress line of generation moves between two videos, too."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from pipelines.generation import shown
from pipelines.generation.asked import Asked
from pipelines.generation.generator import Generator
from train.sampling.config import SampleConfig


class Steps:
    """Tells a share of all, and gives a video, in turn."""

    def make(self, asked: Any, config: Any, place: Any, told: Callable[[float], None]) -> Iterator[tuple[int, Path]]:
        for number, share in enumerate((0.25, 0.75)):
            told(share)
            yield number, Path(str(number))


def test_steps_of_the_next_video_count_beside_those_that_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    amounts: list[float] = []

    def track(
        results: Iterable[Any], num_items: int, name: str, *, under_way: Callable[[], Mapping[str, float]]
    ) -> Iterator[Any]:
        for number, result in enumerate(results):
            amounts.append(number + under_way()[""])
            yield result

    monkeypatch.setattr(shown, "track", track)
    asked = [Asked(prompt="", width=8, height=8, num_frames=1, seed=seed) for seed in range(2)]
    made = shown.make_shown(cast(Generator, Steps()), asked, SampleConfig(), lambda _: Path(), "sample")
    assert [number for number, _ in made] == [0, 1]
    assert amounts == [0.5, 1.5]
