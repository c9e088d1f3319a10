"""A training in stages. The driver behind `reelpack train-stages`.

OUT/NAME/           the run of a stage
OUT/NAME/model/     its averaged weights, with which the next one begins
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from curate.dataset.dataset import Dataset
from curate.storage.place import is_url
from pipelines.config import Config
from pipelines.console.interrupted import is_first_rank
from pipelines.console.progress import console
from pipelines.drivers.encode import encode, encodings
from pipelines.stages import Stage
from train.run.checkpoint import list_checkpoints
from train.run.export import export_run

Train = Callable[[Sequence[str], str, Config], Any]
"""Datasets, folder and settings of a run that is trained, or continued."""
MODEL = "model"


def train_stages(stages: Sequence[Stage], out: str, train: Train) -> Iterator[tuple[Stage, Any]]:
    """Train one stage after the other; what is done is not done again.

    Args:
        stages: of `read_stages`.
        out: a folder of this machine, or one that all machines see.
        train: how a run is trained.

    Yields:
        Each stage, and what `train` returned, when it is done.

    Raises:
        ValueError: `out` is a URL or holds a run of other settings, or what `train` and `encode` raise.
    """
    if is_url(out):
        raise ValueError(f"--out {out}: models are handed on in a folder; expected one that all machines see")
    before: Path | None = None
    for number, stage in enumerate(stages, 1):
        run = Path(out).absolute() / stage.name
        if is_first_rank():
            console.print(f"stage {number} of {len(stages)}: {stage.name}", highlight=False, markup=False)
        config = with_latents(stage)
        if stage.continues:
            config = _with(config, init=str(before))
        trained = train(stage.datasets, str(run), config)
        before = run / MODEL
        if is_first_rank() and not _is_exported(run):
            export_run(run, before)
        yield stage, trained


def with_latents(stage: Stage) -> Config:
    """Its settings, which name the latents that it is trained on. A process that trains alone makes them.

    Raises:
        ValueError: the latents are not there, and several ranks train.
    """
    if not stage.encodes:
        return stage.config
    names: list[str] = []
    for url in stage.datasets:
        if os.environ.get("WORLD_SIZE", "1") == "1":
            names.append(encode(url, stage.config).latents)
            continue
        dataset = Dataset(url)
        made = encodings(dataset, dataset.read_index(), stage.config)
        (name,) = (one.fingerprint for one in made if one.kind == "latents")
        if dataset.encoded_index("latents", name) is None:
            raise ValueError(
                f"stage {stage.name}: {url} has no latents {name}; make them before several ranks train: `reelpack "
                "train-stages FILE --out OUT --encode-only`"
            )
        names.append(name)
    data = stage.config.train.data
    if len(set(names)) > 1:
        raise ValueError(f"stage {stage.name}: its datasets have latents {', '.join(names)}; expected equal settings")
    return _with(stage.config, data=data.model_copy(update={"latents": names[0]}))


def _with(config: Config, **settings: Any) -> Config:
    return config.model_copy(update={"train": config.train.model_copy(update=settings)})


def _is_exported(run: Path) -> bool:
    """Whether the model is there, and not older than the last checkpoint."""
    weights = run / MODEL / "model.safetensors"
    newest = list_checkpoints(run / "checkpoints")[-1]
    return weights.exists() and weights.stat().st_mtime >= newest.stat().st_mtime
