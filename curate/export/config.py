"""The family of export layouts: one line per member."""

import difflib
from collections.abc import Sequence

import yaml
from pydantic import ValidationError

from curate.export.base import Layout
from curate.export.diffusion_pipe import DiffusionPipeLayout
from curate.export.energon import EnergonLayout
from curate.export.finetrainers import FinetrainersLayout
from curate.export.folders import FoldersLayout
from curate.export.hf import HFLayout
from curate.export.litdata import LitDataLayout
from curate.export.musubi import MusubiLayout
from curate.export.parquet import ParquetLayout
from curate.export.webdataset import WebDatasetLayout

LAYOUTS: tuple[type[Layout], ...] = (
    WebDatasetLayout,
    HFLayout,
    ParquetLayout,
    FoldersLayout,
    FinetrainersLayout,
    DiffusionPipeLayout,
    MusubiLayout,
    EnergonLayout,
    LitDataLayout,
)
KINDS: dict[str, type[Layout]] = {one.model_fields["kind"].default: one for one in LAYOUTS}


def layout_of(kind: str, settings: Sequence[str] = ()) -> Layout:
    """The layout of this kind with settings of its own, each `key=value`.

    Raises:
        ValueError: there is no such kind, or it has no such setting; the message names the nearest.
    """
    if kind not in KINDS:
        nearest = difflib.get_close_matches(kind, KINDS, 1, 0.4)
        hint = f"the nearest is {nearest[0]}; there are" if nearest else "there are"
        raise ValueError(f"--to {kind}: no such layout; {hint} {', '.join(KINDS)}")
    try:
        given = {name: yaml.safe_load(value) for name, _, value in (setting.partition("=") for setting in settings)}
        return KINDS[kind].model_validate(given)
    except yaml.YAMLError as error:
        raise ValueError(f"--set {', '.join(settings)}: no YAML ({' '.join(str(error).split())})") from error
    except ValidationError as error:
        fields = [name for name in KINDS[kind].model_fields if name != "kind"]
        known = f"the settings of {kind} are {', '.join(fields)}" if fields else f"{kind} has no settings"
        first = error.errors()[0]
        path = ".".join(map(str, first["loc"]))
        raise ValueError(f"--set {path}: {first['msg']} (got {first['input']!r}); {known}") from error
