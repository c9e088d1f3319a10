"""A run's folder and identity: what is trained, on which latents, under which text encoder.

    RUN/config.yaml  run.json  checkpoints/step-{n:06d}/  metrics.jsonl  tensorboard/  samples/
        summary.json  report.html

`config.yaml` is what the user set, resolved. `run.json` is what the dataset added: the fingerprint records of latents
and text. The two are enough to sample without the dataset. The folder of `train-export` has both in its `config.json`,
and its weights in place of checkpoints; whatever only reads runs takes it, too.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from textwrap import indent
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow.compute as pc
import torch
import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from curate.storage.place import AnyPath, path_of
from curate.storage.yaml_text import from_yaml
from train.data.manifest import Manifest
from train.data.tasks.base import lone_frames_of
from train.distributed.ranks import check_groups
from train.finetune.adapt import adapt
from train.finetune.base import find_base
from train.finetune.quantized import dequantize
from train.model.base import Denoiser
from train.packing.shapes import LONE_FRAMES
from train.run.checkpoint import list_checkpoints, load_weights
from train.run.config import TrainConfig
from train.run.given import EMBEDDED, EMBEDDED_FOLDER
from train.run.init import initialize
from train.run.renamed import upgraded

EXPORTED = "config.json"
OF_LATENTS = ("fingerprint", "channels", "temporal_stride", "spatial_stride")
"""What the record of latents has in any version."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """What the data say of the model."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    latents: dict[str, Any]  # fingerprint.json of the latents
    text: dict[str, Any]  # fingerprint.json of the text embeddings
    fps: float  # most frequent rate of the training videos; 0: there are only images
    datasets: tuple[dict[str, Any], ...]  # name, url, fingerprints and share of each, its clips and their hash
    labels: tuple[str, ...] | None = None  # names of the classes by number
    embedding: str | None = None  # what features are aligned to: a score family, or an image encoder
    conditioning: dict[str, Any] = field(default_factory=dict)  # by name: of which latents, and how it is shown
    base: dict[str, Any] | None = None  # folder and fingerprint of the model whose weights are frozen; None: none are
    longest: int = 0  # latent frames of the longest training sample; 0: of an earlier version, not said
    changes: tuple[dict[str, Any], ...] = ()  # settings of a run that continued otherwise, after which step

    @classmethod
    def of(cls, manifest: Manifest, embedding: str | None = None, base: dict[str, Any] | None = None) -> "RunRecord":
        return cls(
            latents=manifest.latents,
            text=manifest.text,
            fps=_usual_fps(manifest),
            datasets=tuple(
                {**asdict(part), **_clips(manifest, manifest.sources == number)}
                for number, part in enumerate(manifest.parts)
            ),
            labels=manifest.labels,
            embedding=embedding,
            base=base,
            conditioning=manifest.conditioning_record,
            longest=pc.max(manifest.table["latent_t"]).as_py() or 0,
        )


def _clips(manifest: Manifest, rows: np.ndarray) -> dict[str, Any]:
    """Number and hash of a dataset's training clips: all of them that the plan is a function of."""
    columns = (manifest.keys, manifest.grids, manifest.weights)
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(column[rows]).tobytes() for column in columns))
    return {"train_clips": int(rows.sum()), "sha256": digest.hexdigest()}


def _usual_fps(manifest: Manifest) -> float:
    is_video = pc.not_equal(manifest.column("kind"), "image")
    rates = manifest.column("fps").filter(is_video).drop_null().to_numpy()
    values, counts = np.unique(rates[rates > 0], return_counts=True)
    return float(values[counts.argmax()]) if len(values) else 0.0


def activation_dtype(config: TrainConfig, device: torch.device) -> torch.dtype:
    """What the model computes in."""
    half = config.dtype == "bfloat16" or (config.dtype == "auto" and device.type == "cuda")
    return torch.bfloat16 if half else torch.float32


def autocast(config: TrainConfig, device: torch.device) -> torch.autocast:
    """The model computes in `activation_dtype` inside."""
    enabled = activation_dtype(config, device) is torch.bfloat16
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def build_model(config: TrainConfig, record: RunRecord) -> Denoiser:
    """The model of a run, its weights a function of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        channels = int(record.latents["channels"])
        latents = config.model.conditioning_latents | dict.fromkeys(record.conditioning, channels)
        if lone_frames_of(config.data.tasks) != "none":
            latents |= {LONE_FRAMES: channels + 1}
        shape = config.model.model_copy(update={"conditioning_latents": latents})
        model: Denoiser = shape.build(
            channels=channels,
            text_dim=int(record.text["dim"]),
            num_outputs=config.objective.num_outputs,
        )
    return model


def adapt_base(model: Denoiser, config: TrainConfig, folder: str | Path) -> None:
    """Begin with the weights of a folder, as the run is fine-tuned: `train.finetune`."""
    adapt(model, config, initialize(model, folder, config.init_tubelet))


def check_ranks(config: TrainConfig, num_ranks: int) -> None:
    """See that the packs of a step can be dealt over the ranks, or over the groups of them that share packs.

    Raises:
        ValueError: the ranks make no groups or shards of the size that is set, there are too few packs, or sharded
            ranks would get different numbers of them.
    """
    packs, parallel = config.data.plan.packs_per_step, config.parallel
    check_groups(num_ranks, parallel.context)
    takers = num_ranks // parallel.context
    named = "ranks" if parallel.context == 1 else f"groups of {parallel.context} ranks"
    if takers > packs:
        raise ValueError(
            f"{takers} {named} cannot share a step of {packs} packs; raise train.data.plan.packs_per_step to a "
            f"multiple of {takers}"
        )
    if num_ranks > 1 and parallel.is_sharded and packs % takers:
        raise ValueError(
            f"train.parallel.mode={parallel.mode}: {takers} {named} gather each other's parameters pack by pack, and "
            f"{packs} packs cannot be dealt evenly; set train.data.plan.packs_per_step to a multiple of {takers}"
        )
    if num_ranks > 1 and num_ranks % parallel.num_shards(num_ranks):
        raise ValueError(
            f"got {num_ranks} ranks and train.parallel.shard={parallel.shard}: replicas of {parallel.shard} ranks; "
            f"start a multiple of {parallel.shard} ranks, or set train.parallel.shard to a divisor of {num_ranks}"
        )


def run_folder(run: str | AnyPath) -> AnyPath:
    """A path or URL as it is given, and `embedded`."""
    return EMBEDDED_FOLDER if run == EMBEDDED else path_of(run)


def read_run(run: AnyPath) -> tuple[TrainConfig, RunRecord]:
    """Configuration and record of a run's folder, or of an exported one.

    Raises:
        ValueError: the folder holds no run, or one of another version.
    """
    source = EXPORTED if _is_exported(run) else "config.yaml"
    try:
        config = TrainConfig.model_validate(upgraded(_settings(run)))
        return config, _record(run, source)
    except ValidationError as error:
        if source != EXPORTED and not (run / "run.json").exists():
            raise ValueError(f"{run}: no training run here (no run.json); `reelpack train` writes one") from error
        lines = indent("\n".join(map(_explain, error.errors())), "  ")
        raise ValueError(
            f"{run}/{source}: saved by another version of reelpack. Change it there, or train elsewhere:\n{lines}"
        ) from error
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        file = source if isinstance(error, yaml.YAMLError) or source == EXPORTED else "run.json"
        raise ValueError(f"{run}/{file}: is damaged ({error}); put back what was there, or train elsewhere") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(f"{run}: no training run here ({error}); `reelpack train` writes one") from error


def _record(run: AnyPath, source: str) -> RunRecord:
    try:
        record = TypeAdapter(RunRecord).validate_python(_facts(run))
        lacks = [f"latents.{name}: is missing" for name in OF_LATENTS if name not in record.latents]
        problems = [*lacks, *(["text.dim: is missing"] if "dim" not in record.text else [])]
    except ValidationError as error:
        details = ((".".join(map(str, one["loc"])), one["msg"]) for one in error.errors(include_url=False))
        problems = [f"{place}: {message}" if place else message for place, message in details]
    if problems:
        file = EXPORTED if source == EXPORTED else "run.json"
        raise ValueError(
            f"{run}/{file}: written by another version of reelpack, or damaged ({'; '.join(problems)}); put back what "
            "was there, or train elsewhere"
        )
    return record


def _is_exported(run: AnyPath) -> bool:
    return (run / EXPORTED).exists() and not (run / "config.yaml").exists()


def _exported(run: AnyPath) -> dict[str, Any]:
    entries = json.loads((run / EXPORTED).read_text())
    if not isinstance(entries, dict):
        raise ValueError(f"{run}/{EXPORTED}: got {type(entries).__name__}, expected the settings of a model")
    return entries


def _settings(run: AnyPath) -> Any:
    if not _is_exported(run):
        return from_yaml((run / "config.yaml").read_text())
    entries = _exported(run)
    if "train" not in entries:
        raise ValueError(
            f"{run}: a model without the settings of its training; expected the folder of a run, or one that "
            "`reelpack train-export RUN` of this version writes"
        )
    return entries["train"]


def _facts(run: AnyPath) -> Any:
    """Fields of the record."""
    if not _is_exported(run):
        return json.loads((run / "run.json").read_text())
    entries = _exported(run)
    return {one.name: entries[one.name] for one in fields(RunRecord) if one.name in entries}


def _explain(detail: ErrorDetails) -> str:
    path = ".".join(["train", *map(str, detail["loc"])])
    return str(detail["ctx"]["error"]) if detail["type"] == "value_error" else f"{path}: {detail['msg']}"


def load_model(
    run: AnyPath, *, weights: Literal["ema", "model"] = "ema", step: int | None = None
) -> tuple[Denoiser, TrainConfig, RunRecord]:
    """The trained model of a run, from its newest checkpoint, or from that after `step`. An exported folder has one.

    Raises:
        ValueError: no run, or no such checkpoint in it.
    """
    config, record = read_run(run)
    chosen = chosen_step(run, step)
    if _is_exported(run):
        if (there := _exported(run).get("weights", weights)) != weights:
            raise ValueError(f"{run}: got sample.weights={weights}, and {there} were exported")
        return Denoiser.from_pretrained(str(run)), config, record
    model = build_model(config, record)
    if record.base is not None:
        adapt_base(model, config, find_base(run, record.base, config.init))
        dequantize(model)
        model.float()  # what was kept in another type has its values
    load_weights(_checkpoints(run)[chosen], weights, model)
    return model.eval(), config, record


def chosen_step(run: AnyPath, step: int | None) -> int:
    """The step of the newest checkpoint, or this one, if there is a checkpoint after it.

    Raises:
        ValueError: there is none.
    """
    there = checkpoint_steps(run)
    if step is not None and step not in there:
        raise ValueError(
            f"{run}: got step {step}, and there are checkpoints after {', '.join(map(str, there))}; take one of them. "
            "In the next run train.checkpoint.keep and keep_every say which stay"
        )
    return there[-1] if step is None else step


def checkpoint_steps(run: AnyPath) -> list[int]:
    """After which steps there are checkpoints, in order.

    Raises:
        ValueError: there are none.
    """
    return sorted(_checkpoints(run))


def _checkpoints(run: AnyPath) -> dict[int, AnyPath]:
    """By the steps that they were written after."""
    if _is_exported(run):
        return {int(_exported(run).get("step", 0)): run}
    checkpoints = list_checkpoints(run / "checkpoints")
    if not checkpoints:
        raise ValueError(f"{run}: the run has no checkpoint yet")
    return {int(path.name.removeprefix("step-")): path for path in checkpoints}
