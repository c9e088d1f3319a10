"""Generation under a progress line, which moves with each step of the sampler."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pipelines.console.progress import ITEMS, track
from pipelines.generation.asked import Asked
from pipelines.generation.generator import Generator
from train.sampling.config import SampleConfig


def make_shown(
    generator: Generator, asked: Sequence[Asked], config: SampleConfig, place: Callable[[int], Path], name: str
) -> Iterator[tuple[int, Path]]:
    """`Generator.make`; `name` is that of the line."""
    share, num_made = 0.0, 0

    def told(done: float) -> None:
        nonlocal share
        share = done

    def under_way() -> dict[str, float]:
        return {ITEMS.name: max(0.0, share * len(asked) - num_made)}

    made = generator.make(asked, config, place, told)
    for one in track(made, len(asked), name, under_way=under_way):
        num_made += 1
        yield one
