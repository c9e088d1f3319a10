"""What a dataset was made with, as a configuration of this version and as commands that a user types."""

import shlex
from typing import Literal

import pyarrow.compute as pc

from curate.dataset.dataset import Dataset
from pipelines.config import CURATION_SECTIONS, Config, overrides, upgraded
from pipelines.execute.base import ExecuteConfig
from pipelines.inputs.sources import absolute

Step = Literal["caption", "encode"]
OF_A_MACHINE = ("address", "staging", "metrics_port", "metrics_host")


def config_of(dataset: Dataset, *, or_running: bool = False) -> Config:
    """The configuration in `made_with`, without `execute`: how stages are run here, and which folder copies are kept
    in, is not for data to say."""
    section = dataset.made_with(or_running=or_running)
    names = {*CURATION_SECTIONS} - {"execute"}
    return Config.model_validate(upgraded({name: section[name] for name in names if name in section}))


def check_cut(dataset: Dataset) -> None:
    """See that the clips of the index are cut with the dataset's settings: an index that is written again would lose
    the others.

    Raises:
        ValueError: none is, as where another reelpack cut them; the message has the command that cuts them.
    """
    num_indexed, cut_key = dataset.num_indexed(), config_of(dataset).shards.key
    if num_indexed and not any(cut_key in pc.unique(part["cut_key"]).to_pylist() for part in dataset.shards.parts([])):
        raise ValueError(
            f"{dataset.url}: the {num_indexed} clips of the index are cut with other settings than it has now "
            f"(another reelpack cut them, or `curate` was stopped); cut them first: {curate_command(dataset)}"
        )


def curate_command(dataset: Dataset) -> str:
    """What a user types, in any folder, to resume with the inputs and settings in `made_with`. Folders of copies,
    and addresses of clusters, are left to the user."""
    made_with = dataset.made_with(or_running=True)
    execute = made_with.get("execute", {}).items()
    shown = ExecuteConfig.model_validate({name: value for name, value in execute if name not in OF_A_MACHINE})
    settings = _flags(config_of(dataset, or_running=True).model_copy(update={"execute": shown}))
    inputs = [*made_with["inputs"], *(word for url in made_with.get("lists", ()) for word in ("--list", url))]
    return shlex.join(["reelpack", "curate", *inputs, "--out", absolute(dataset.url), *settings])


def step_config(dataset: Dataset, step: str, execute: ExecuteConfig | None = None) -> Config:
    """The settings with which a later step ran last, or the defaults if it never did."""
    sections = dataset.sections()
    saved = {step: sections[step]} if step in sections else {}
    saved |= {name: sections[f"{step}_{name}"] for name in ("media", "text") if f"{step}_{name}" in sections}
    config = Config.model_validate(upgraded(saved))
    return config.model_copy(update={"execute": execute}) if execute else config


def step_command(dataset: Dataset, step: Step) -> str:
    """What a user types to repeat a later step as it ran last, or with the defaults if it never did."""
    config = step_config(dataset, step)
    return shlex.join(["reelpack", step, dataset.url, *_flags(config)])


def _flags(config: Config) -> list[str]:
    return [word for override in overrides(config) for word in ("--set", override)]
