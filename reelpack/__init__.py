"""reelpack as a library: the steps of the command line as functions, and a dataset's rows, clips and captions.

    import reelpack

    made = reelpack.curate("videos/", out="dataset", executor="local")
    for clip in made.dataset:
        print(clip.id, clip.frames().shape)

Settings are those of `--config` and `--set`. Errors are `ValueError`s with the message of the command line. Nothing
heavy is imported before it is used: `import reelpack` takes milliseconds. The reference is docs/python.md.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curate.errors import Missing, NotADataset, OtherVersion
    from curate.schema import MediaError
    from curate.storage.lease import Occupied
    from pipelines.console.interrupted import Interrupted
    from reelpack.clip import Clip
    from reelpack.curation import caption, curate, encode, export, select
    from reelpack.dataset import Dataset
    from reelpack.errors import NothingKept
    from reelpack.history import Forgotten, checkout, forget
    from reelpack.results import (
        Captioned,
        Curated,
        Encoded,
        Evaluated,
        Exported,
        Sample,
        Sampled,
        Selected,
        Trained,
    )
    from reelpack.training import evaluate, sample, train

__all__ = [
    "Captioned",
    "Clip",
    "Curated",
    "Dataset",
    "Encoded",
    "Evaluated",
    "Exported",
    "Forgotten",
    "Interrupted",
    "MediaError",
    "Missing",
    "NotADataset",
    "NothingKept",
    "Occupied",
    "OtherVersion",
    "Sample",
    "Sampled",
    "Selected",
    "Trained",
    "caption",
    "checkout",
    "curate",
    "encode",
    "evaluate",
    "export",
    "forget",
    "sample",
    "select",
    "train",
]

_MODULES = {
    "reelpack.clip": ("Clip",),
    "reelpack.curation": ("caption", "curate", "encode", "export", "select"),
    "reelpack.dataset": ("Dataset",),
    "reelpack.errors": ("NothingKept",),
    "reelpack.history": ("Forgotten", "checkout", "forget"),
    "reelpack.training": ("evaluate", "sample", "train"),
    "curate.errors": ("Missing", "NotADataset", "OtherVersion"),
    "curate.schema": ("MediaError",),
    "curate.storage.lease": ("Occupied",),
    "pipelines.console.interrupted": ("Interrupted",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

if not TYPE_CHECKING:  # else a name that is not there would have any type

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'reelpack' has no attribute {name!r}")
        value = getattr(import_module(_MODULE_OF.get(name, "reelpack.results")), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
