"""What a run will be, before it starts: packs, steps, idle ranks, memory. Reads indices, no tensors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curate.device import pick_device
from train.data.epoch import EpochSamples
from train.data.mix import read_datasets
from train.data.plan import Planner, idle_share
from train.estimate.blend import BlendForecast, blend_of
from train.estimate.memory import device_bytes, estimate_memory, warn_if_too_large
from train.estimate.scale import scale_of, warn_of_scale
from train.run.config import TrainConfig
from train.run.folder import RunRecord, activation_dtype, build_model, check_ranks


@dataclass(frozen=True, kw_only=True, slots=True)
class PartForecast:
    """What the epoch meets of one dataset."""

    name: str
    num_clips: int
    num_seen: int
    num_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """One epoch of a run.

    Attributes:
        num_clips: Rows of the manifest.
        num_seen: Samples that the epoch sees: weights repeat some and leave out others.
        num_tokens: Of all of them, after dropping and cutting.
        num_packs: Packs of the epoch.
        num_steps: Optimizer steps of the epoch.
        token_efficiency: Real tokens over the packs' budget.
        num_epochs: Of the whole run.
        meetings: How often the run meets a clip, on average.
        idle: Share of their time that ranks are predicted to wait for each other.
        num_cut: Samples that lose frames to the budget.
        num_oversize: Samples above the budget in packs of their own.
        parts: Of each dataset.
        blend: Its captions; None: the model takes none, or they are not known.
        num_parameters: Of the model.
        state_bytes: Weights, gradients, optimizer and average, per rank.
        activation_bytes: About what the largest pack, or a rank's part of it, takes in addition.
    """

    num_clips: int
    num_seen: int
    num_tokens: int
    num_packs: int
    num_steps: int
    token_efficiency: float
    num_epochs: float
    meetings: float
    idle: float
    num_cut: int
    num_oversize: int
    parts: tuple[PartForecast, ...]
    blend: BlendForecast | None
    num_parameters: int
    state_bytes: int
    activation_bytes: int


def forecast(config: TrainConfig, dataset: str | Sequence[str], num_ranks: int = 1) -> Forecast:
    """Plan the first epoch.

    Raises:
        ValueError: what training would raise: no clips, samples that are refused, a configuration that contradicts
            itself.
    """
    model, plan = config.model, config.data.plan
    check_ranks(config, num_ranks)
    manifest = read_datasets(dataset, split="train", data=config.data, model=model)
    samples = EpochSamples(manifest, config.data.epoch, plan, config.seed)
    planner = Planner(samples, config.seed, plan, pair_cost=model.pair_cost)
    planned = planner.epoch(0)
    packs = [[sample.num_tokens for sample in pack] for pack in planned]
    seen = np.array([(manifest.sources[one.row], one.num_tokens) for pack in planned for one in pack]).reshape(-1, 2)
    sizes = np.array([sum(pack) for pack in packs])
    rows = np.arange(len(manifest))
    device = pick_device(config.device, setting="train.device")
    memory = estimate_memory(
        config,
        build_model(config, RunRecord.of(manifest)),
        int(sizes.max(initial=0)),
        num_ranks,
        activation_dtype(config, device),
    )
    warn_if_too_large(config, memory, device_bytes(device))
    warn_of_scale(config, manifest)
    scale = scale_of(config, manifest)
    return Forecast(
        num_clips=len(manifest),
        num_seen=sum(map(len, packs)),
        num_tokens=int(sizes.sum()),
        num_packs=len(packs),
        num_steps=len(packs) // plan.packs_per_step,
        token_efficiency=float(sizes.sum() / max(1, len(packs) * plan.token_budget)),
        num_epochs=scale.num_epochs,
        meetings=scale.meetings,
        idle=idle_share(planner.costs(packs), num_ranks // config.parallel.context),
        num_cut=int((samples.num_frames(rows) < manifest.grids[:, 0]).sum()),
        num_oversize=int((sizes > plan.token_budget).sum()),
        parts=tuple(
            PartForecast(
                name=part.name,
                num_clips=int((manifest.sources == number).sum()),
                num_seen=int((seen[:, 0] == number).sum()),
                num_tokens=int(seen[seen[:, 0] == number, 1].sum()),
            )
            for number, part in enumerate(manifest.parts)
        ),
        blend=blend_of(config, manifest),
        num_parameters=memory.num_parameters,
        state_bytes=memory.state_bytes,
        activation_bytes=memory.activation_bytes,
    )
