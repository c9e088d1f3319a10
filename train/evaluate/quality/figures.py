"""The figures of generated videos, with intervals of confidence, beside what real videos have."""

from collections.abc import Mapping
from dataclasses import dataclass

from train.evaluate.bootstrap import Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Distance:
    """Of generated videos from held-out clips, by one network.

    Attributes:
        frechet: The Fréchet distance: biased, too high for few samples.
        infinity: It, extrapolated to sets without end.
        kernel: The kernel distance: unbiased.
        num_features: Of the network; below as many samples the Fréchet distance says little.
        training_frechet, training_kernel: Of as many training clips from the held-out clips: what samples would have
            that are as good as clips. None without training clips enough.
    """

    frechet: Interval
    infinity: float
    kernel: Interval
    num_features: int
    training_frechet: float | None
    training_kernel: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Consistency:
    """Of videos with their prompts, by one encoder, see `TextMatch`. `held_out`: of held-out clips and captions."""

    own: Interval
    shuffled: float | None
    first: float | None
    p_value: float
    held_out: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Movement:
    """A figure of `motion.movement`, means over videos."""

    generated: Interval
    held_out: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Memorization:
    """Nearest training clips. `share`: of the videos that are nearer to one than 95 % of the held-out clips are."""

    generated: Interval
    held_out: float
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredVideo:
    """One generated video.

    Attributes:
        number: In the order that videos were given in.
        prompt: It was made for.
        consistency: Cosine with its prompt, by encoder.
        nearest: Id of the nearest training clip; None without training clips.
        nearest_distance: Of it, from 0 to 2.
        is_suspect: Nearer than 95 % of the held-out clips are.
    """

    number: int
    prompt: str
    consistency: Mapping[str, float]
    nearest: str | None
    nearest_distance: float | None
    is_suspect: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """What was measured. `videos`: the worst first, by the first encoder; without one, the farthest from the clips."""

    num_videos: int
    num_held_out: int
    num_training: int
    distances: Mapping[str, Distance]
    consistency: Mapping[str, Consistency]
    movement: Mapping[str, Movement]
    memorization: Memorization | None
    videos: tuple[MeasuredVideo, ...]
