"""From what networks see of generated videos and of clips to figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from train.evaluate.bootstrap import Interval, bootstrap, bootstrap_of_mean
from train.evaluate.frechet import frechet_infinity, frechet_of_sets
from train.evaluate.kernel import Kernels
from train.evaluate.quality.config import MIN_SAMPLES, MeasureConfig
from train.evaluate.quality.figures import Consistency, Distance, Figures, MeasuredVideo, Memorization, Movement
from train.evaluate.quality.nearest import Nearest, nearest, suspects
from train.evaluate.quality.observe import Observation
from train.evaluate.quality.text import TextMatch, clipsim, match

SEED = 0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SeenSet:
    """N videos as networks see them.

    Attributes:
        videos: What was seen.
        names: Ids of clips, or numbers of generated videos.
        prompts: What each shows; "" where nothing says it.
        texts: Embeddings of the prompts, (N, d) of unit length by encoder.
    """

    videos: Sequence[Observation]
    names: Sequence[str]
    prompts: Sequence[str] = ()
    texts: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.videos)

    def features(self, name: str) -> torch.Tensor:
        """(N, D)."""
        return torch.stack([one.features[name] for one in self.videos])


def check_counts(generated: int, held_out: int) -> None:
    """See that there are enough videos.

    Raises:
        ValueError: there are not.
    """
    for count, what, remedy in (
        (generated, "generated videos", "ask for more samples"),
        (held_out, "held-out clips to compare with", "hold more clips out, or compare with another dataset"),
    ):
        if count < MIN_SAMPLES:
            raise ValueError(f"got {count} {what}, expected at least {MIN_SAMPLES}; {remedy}")


def measure(generated: SeenSet, held_out: SeenSet, training: SeenSet, config: MeasureConfig) -> Figures:
    """All figures.

    Args:
        generated: at least `MIN_SAMPLES`.
        held_out: likewise; what distances are from.
        training: any number; none: nothing is said of memorization.
        config: draws, and their confidence.

    Raises:
        ValueError: there are too few.
    """
    check_counts(len(generated), len(held_out))
    of_features = list(generated.videos[0].features)
    distances = {name: _distance(name, generated, held_out, training, config) for name in of_features}
    matches = _matches(generated, config)
    clips = {name: [one.frames[name] for one in held_out.videos] for name in matches}
    consistency = {
        name: Consistency(
            own=_mean(found.own, config),
            shuffled=found.shuffled,
            first=found.first,
            p_value=found.p_value,
            held_out=_own(clips[name], held_out, name),
        )
        for name, found in matches.items()
    }
    names = dict.fromkeys(name for one in generated.videos for name in one.movement)
    movement = {
        name: Movement(generated=_mean(values, config), held_out=_plain_mean(_movements(held_out, name)))
        for name in names
        if len(values := _movements(generated, name)) > 1
    }
    near, memorization = _memorization(of_features[0], generated, held_out, training, config)
    return Figures(
        num_videos=len(generated),
        num_held_out=len(held_out),
        num_training=len(training),
        distances=distances,
        consistency=consistency,
        movement=movement,
        memorization=memorization,
        videos=_worst_first(generated, held_out, training, matches, near),
    )


def _distance(name: str, generated: SeenSet, held_out: SeenSet, training: SeenSet, config: MeasureConfig) -> Distance:
    x, y = generated.features(name), held_out.features(name)
    kernels, sizes = Kernels.of(x, y), [len(x), len(y)]
    # Equal numbers: the Fréchet distance depends on them.
    clips = training.features(name)[: len(x)] if len(training) >= len(x) else None
    return Distance(
        frechet=bootstrap(lambda i, j: frechet_of_sets(x[i], y[j]), sizes, **_draws(config)),
        infinity=frechet_infinity(x, y, torch.Generator().manual_seed(SEED)),
        kernel=bootstrap(kernels.distance, sizes, **_draws(config)),
        num_features=x.shape[1],
        training_frechet=None if clips is None else frechet_of_sets(clips, y),
        training_kernel=None if clips is None else Kernels.of(clips, y).distance(),
    )


def _matches(generated: SeenSet, config: MeasureConfig) -> dict[str, TextMatch]:
    """By encoder; none where a video has no prompt."""
    if not generated.prompts or not all(generated.prompts):
        return {}
    return {
        name: match([one.frames[name] for one in generated.videos], texts, generated.prompts, config.num_permutations)
        for name, texts in generated.texts.items()
    }


def _own(clips: Sequence[np.ndarray], held_out: SeenSet, name: str) -> float | None:
    """Mean match of the held-out clips that have a caption."""
    rows = [row for row, prompt in enumerate(held_out.prompts) if prompt]
    return _plain_mean([clipsim(clips[row], held_out.texts[name][row]) for row in rows])


def _memorization(
    name: str, generated: SeenSet, held_out: SeenSet, training: SeenSet, config: MeasureConfig
) -> tuple[Nearest | None, Memorization | None]:
    if not len(training):
        return None, None
    clips = training.features(name)
    near, usual = nearest(generated.features(name), clips), nearest(held_out.features(name), clips)
    return near, Memorization(
        generated=_mean(near.distance, config),
        held_out=float(usual.distance.mean()),
        share=float(suspects(near, usual).double().mean()),
    )


def _worst_first(
    generated: SeenSet,
    held_out: SeenSet,
    training: SeenSet,
    matches: Mapping[str, TextMatch],
    near: Nearest | None,
) -> tuple[MeasuredVideo, ...]:
    name = next(iter(generated.videos[0].features))
    suspect = None if near is None else suspects(near, nearest(held_out.features(name), training.features(name)))
    from_clips = nearest(generated.features(name), held_out.features(name)).distance.tolist()
    found = [
        MeasuredVideo(
            number=number,
            prompt=generated.prompts[number] if generated.prompts else "",
            consistency={encoder: float(one.own[number]) for encoder, one in matches.items()},
            nearest=None if near is None else training.names[int(near.clip[number])],
            nearest_distance=None if near is None else float(near.distance[number]),
            is_suspect=suspect is not None and bool(suspect[number]),
        )
        for number in range(len(generated))
    ]

    def worth(one: MeasuredVideo) -> float:
        return next(iter(one.consistency.values()), -from_clips[one.number])

    return tuple(sorted(found, key=worth))


def _movements(seen: SeenSet, name: str) -> list[float]:
    return [one.movement[name] for one in seen.videos if name in one.movement]


def _plain_mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _mean(values: Any, config: MeasureConfig) -> Interval:
    return bootstrap_of_mean(torch.from_numpy(np.array(values, np.float64)), **_draws(config))


def _draws(config: MeasureConfig) -> dict[str, Any]:
    return {"num_draws": config.num_bootstrap, "confidence": config.confidence, "seed": SEED}
