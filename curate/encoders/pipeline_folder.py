"""Folders of a diffusers pipeline: each holds one model, with weights of one or several variants."""

import re
from pathlib import Path

PIPELINE = "model_index.json"


def model_folder(root: Path, subfolder: str | None, setting: str, part: str) -> Path:
    """The folder of a model in `root`, or `root` itself.

    Args:
        root: local folder of a model or of a pipeline.
        subfolder: name of the model's folder in it; None: it is `root`.
        setting: section of the settings, for messages: `text` has `text.subfolder`.
        part: how a pipeline's folders of such models begin: `text_encoder`, `vae`.

    Raises:
        ValueError: there is no such subfolder, or `root` is a pipeline and none is given.
    """
    if subfolder is None:
        if (root / PIPELINE).is_file() and not (root / "config.json").is_file():
            raise ValueError(
                f"{setting}: {root} is a whole pipeline; set {setting}.subfolder to {_choice(root, part)}"
            )
        return root
    if not (folder := root / subfolder).is_dir():
        raise ValueError(f"{setting}.subfolder: no folder {subfolder!r} in {root}; expected {_choice(root, part)}")
    return folder


def variant_of(folder: Path, stem: str) -> str | None:
    """Of weights that exist as one variant alone, such as `fp16` of `model.fp16.safetensors`; else None.

    Args:
        folder: of the model.
        stem: how names of its weights begin.

    Raises:
        ValueError: there are several variants, and no weights without one.
    """
    pattern = re.compile(rf"(?:{stem})(?:\.(\w+))?(?:-\d+-of-\d+)?\.(?:safetensors|bin)")
    found = {match[1] for file in folder.iterdir() if (match := pattern.fullmatch(file.name))}
    if None in found or not found:
        return None
    if len(found) > 1:
        raise ValueError(f"{folder} has weights of the variants {', '.join(sorted(found))}; keep one of them there")
    return found.pop()


def _choice(root: Path, part: str) -> str:
    names = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and entry.name.startswith(part))
    return f"one of {', '.join(names)}" if names else f"a folder of a model (none of its folders is named {part}…)"
