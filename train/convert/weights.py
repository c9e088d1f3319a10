"""Weights of a diffusers folder, whole or sharded, read tensor by tensor."""

import json
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from safetensors import SafetensorError, safe_open
from torch import Tensor

from curate.encoders.pipeline_folder import variant_of

STEM = "diffusion_pytorch_model"


class Weights:
    """A context, in which the files are open. They are not mapped into memory: what is read once is held once.

    Attributes:
        shapes: of the tensors, by name.
    """

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            ValueError: there are no weights, a shard is missing, or a file is damaged.
        """
        self._open = ExitStack()
        self._files: dict[str, Any] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for path in _files(folder):
            try:
                file = self._open.enter_context(safe_open(path, "pt", backend="pread"))
            except (OSError, SafetensorError) as error:
                raise ValueError(f"{path}: damaged, or no file of weights ({error}); fetch it again") from error
            names: list[str] = file.keys()
            for name in names:
                self._files[name] = file
                self.shapes[name] = tuple(file.get_slice(name).get_shape())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._open.close()

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self._files[name].get_tensor(name)
        return tensor


def _files(folder: Path) -> list[Path]:
    variant = variant_of(folder, STEM)
    stem = STEM if variant is None else f"{STEM}.{variant}"
    index = next(iter(folder.glob(f"{STEM}.safetensors.index*.json")), None)
    found = [folder / f"{stem}.safetensors"]
    if not found[0].is_file() and index is not None:
        found = [folder / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
    if missing := [path.name for path in found if not path.is_file()]:
        raise ValueError(f"{folder}: expected config.json and {STEM}.safetensors, whole or in shards; no {missing[0]}")
    return found
