"""A cascade of runs: each stage is given what the stage below has drawn (Ho et al. 2022, "Imagen Video", §2.3).

The first run draws videos from prompts alone. A later one was trained on samples that are conditioned on a smaller
latent (`train.data.conditioning`): at fewer pixels, or at a lower rate. All stages read the prompt. Latents are handed
on as they are where two runs share their space; else they are decoded and encoded by the next run's autoencoder.

What is asked for is the last video. The sizes, lengths and rates of the stages below follow from the factors that
the runs were trained on, and are checked before anything is drawn.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from train.autoencoder.config import autoencoder_of
from train.data.conditioning.base import ConditioningSettings
from train.data.space import differing
from train.run.config import TrainConfig
from train.run.folder import RunRecord, read_run, run_folder
from train.sampling.config import SampleConfig
from train.sampling.given import Given
from train.sampling.loaded import LoadedRun
from train.sampling.request import Request, check_requests, latent_shape
from train.sampling.sample import Generated, draw

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A run of a cascade, and what it draws.

    Attributes:
        run: Its folder.
        config: Of the run.
        record: Of the run.
        settings: How it is sampled, at its rate.
        shape: Frames, height and width that it draws.
        given: What it was trained to be given; None: the first stage.
    """

    run: str
    config: TrainConfig
    record: RunRecord
    settings: SampleConfig
    shape: tuple[int, int, int]
    given: ConditioningSettings | None

    def request(self, asked: Request, number: int, lower: Tensor | None) -> Request:
        """What this stage, counted from 0, draws of what is asked of the cascade."""
        frames, height, width = self.shape
        own = replace(asked, num_frames=frames, height=height, width=width, part=number)
        return own if self.given is None else replace(own, given=Given(), conditioning={self.given.kind: lower})


def read_stages(runs: Sequence[str], config: SampleConfig) -> list[tuple[TrainConfig, RunRecord]]:
    """Configuration and record of each run, which can stand at its place.

    Raises:
        ValueError: one is no run, or no stage at its place, or a checkpoint is named, which is of one run alone.
    """
    if config.step is not None and len(runs) > 1:
        raise ValueError(
            f"sample.step={config.step}: it names a checkpoint of one run, and there are {len(runs)}; leave it out, "
            "and the newest of each is taken"
        )
    read = [read_run(run_folder(run)) for run in runs]
    _raise([_misplaced(number, run, train) for number, (run, (train, _)) in enumerate(zip(runs, read, strict=True))])
    return read


def plan_stages(runs: Sequence[str], asked: Request, config: SampleConfig) -> list[Stage]:
    """The stages of a video of this size and length, which can all be drawn.

    Raises:
        ValueError: a run that is no stage at its place, or latents that do not fit; one message tells of all of them.
    """
    read = read_stages(runs, config)
    given = [None if number == 0 else train.data.conditioning[0] for number, (train, _) in enumerate(read)]
    shapes = [(asked.num_frames, asked.height, asked.width)]
    for (train, record), one in zip(read[-2::-1], given[:0:-1], strict=True):
        assert one is not None, "stages after the first are given something"
        px = int(record.latents["spatial_stride"])
        steps = px * train.model.patch[1], px * train.model.patch[2]
        shapes.insert(0, _below(shapes[0], one, steps))
    rates = _rates(given, read[0][1], config)
    stages = [
        Stage(run=run, config=train, record=record, settings=_at(config, fps, one), shape=shape, given=one)
        for run, (train, record), fps, shape, one in zip(runs, read, rates, shapes, given, strict=True)
    ]
    problems = [
        _unfit(stage, number, asked, stages[number - 1] if number else None) for number, stage in enumerate(stages)
    ]
    names = [f"stage {number + 1}, {run}: " if len(runs) > 1 else "" for number, run in enumerate(runs)]
    _raise([problem and name + problem for name, problem in zip(names, problems, strict=True)])
    return stages


def draw_stages(
    stages: Sequence[Stage], requests: Sequence[Request], on_progress: Callable[[float], None] | None = None
) -> Iterator[tuple[int, Generated, LoadedRun]]:
    """One latent of the last stage per request, with the request's number and the last run.

    Args:
        stages: see `plan_stages`.
        requests: what is asked of the cascade, all of the size that the stages are of.
        on_progress: see `draw`.

    Raises:
        ValueError: as `train.sampling.sample.sample`.
    """
    lower: list[Tensor | None] = [None] * len(requests)
    for number, stage in enumerate(stages):
        if number:
            lower = handed_on(lower, stages[number - 1], stage)
        own = [stage.request(request, number, latent) for request, latent in zip(requests, lower, strict=True)]
        run = LoadedRun(stage.run, stage.settings)

        def told(share: float, number: int = number) -> None:
            if on_progress is not None:
                on_progress((number + share) / len(stages))

        if number + 1 == len(stages):
            for i, result in draw(run, own, stage.settings, told):
                yield i, replace(result, request=replace(result.request, conditioning={})), run
            return
        drawn = dict(draw(run, own, stage.settings, told))
        lower = [drawn[i].latent for i in range(len(requests))]


def handed_on(latents: Sequence[Tensor | None], below: Stage, stage: Stage) -> list[Tensor | None]:
    """Latents of one stage in the space of the next: as they are where it is the same, else through pixels."""
    if not differing(below.record.latents, stage.record.latents):
        return list(latents)
    logger.info("%s and %s have other latents: decoded and encoded between them", below.run, stage.run)
    decoder, encoder = (autoencoder_of(one.record.latents) for one in (below, stage))
    return [encoder.encode(decoder.decode(latent).clamp(-1, 1)) for latent in latents if latent is not None]


def _misplaced(number: int, run: str, config: TrainConfig) -> str | None:
    """Why a run cannot stand at this place, counted from 0."""
    kinds = [one.kind for one in config.data.conditioning]
    if number == 0 and kinds:
        return (
            f"{run} was trained on samples that are conditioned on {', '.join(kinds)}, and is the first; name the run "
            "of the stage below before it"
        )
    if number and len(kinds) != 1:
        return (
            f"{run} was conditioned on {' and '.join(kinds) or 'nothing'}, and stands at place {number + 1}; expected "
            "a run that was trained on one latent of the stage below (train.data.conditioning)"
        )
    return None


def _below(shape: tuple[int, int, int], given: ConditioningSettings, steps: tuple[int, int]) -> tuple[int, int, int]:
    """Frames, height and width of the stage below; its sides are multiples of `steps`, as near as may be."""
    frames = 1 + -(-(shape[0] - 1) // given.frame_step)
    height, width = (
        max(1, round(side / given.side_factor / step)) * step for side, step in zip(shape[1:], steps, strict=True)
    )
    return frames, height, width


def _rates(given: Sequence[ConditioningSettings | None], first: RunRecord, config: SampleConfig) -> list[float]:
    """Frames per second of each stage: the first run's, multiplied; or such that the last has `config.fps`."""
    factors = np.cumprod([1 if one is None else one.frame_step for one in given])
    rate = first.fps if config.fps is None else config.fps / factors[-1]
    return [float(rate * factor) for factor in factors]


def _at(config: SampleConfig, fps: float, given: ConditioningSettings | None) -> SampleConfig:
    """The settings of a stage; the first alone is given a video to edit."""
    own = {} if given is None else {"strength": 1.0, "null_text": 0}
    return config.model_copy(update={"fps": fps or None, **own})


def _unfit(stage: Stage, number: int, asked: Request, below: Stage | None) -> str | None:
    """Why a stage cannot draw its part of what is asked."""
    lower = None
    if below is not None:
        assert stage.given is not None, "stages after the first are given something"
        frames, step = stage.shape[0], stage.given.frame_step
        if frames == 1 < step or (frames - 1) % step:
            near = 1 + max(1, round((frames - 1) / step)) * step
            return f"{step} frames for one of the stage below do not make {frames}; ask for {near}"
        lower = torch.empty(0)
        if differing(below.record.latents, stage.record.latents):  # its autoencoder encodes what is below
            try:
                latent_shape(below.request(asked, number, None), stage.record.latents, (1, 1, 1))
            except ValueError as error:
                return f"what it is given does not fit its autoencoder: {error}"
    try:
        settings = stage.settings.model_copy(update={"strength": 1.0})  # of a video that is not read yet
        check_requests([stage.request(asked, number, lower)], settings, stage.config, stage.record)
    except ValueError as error:
        return str(error)
    return None


def _raise(problems: Sequence[str | None]) -> None:
    if found := [problem for problem in problems if problem is not None]:
        raise ValueError("; ".join(found))
