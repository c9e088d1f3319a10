"""Generated videos in the layout that VBench 0.1.5 reads with `--mode custom_input`.

    OUT/videos/{prompt}-{number}.mp4  prompts.json

VBench takes the prompt from a file's name, up to the last dash with digits. prompts.json, its `--prompt_file`, maps
the names of the files to their whole prompts, which names cannot always hold. Custom input has no dimensions that need
VBench's own prompts: object_class, multiple_objects, scene, appearance_style, color, spatial_relationship.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from curate.storage.place import check_folder
from curate.storage.publish import publish, write_text

MAX_NAME_BYTES = 200
"""Of a prompt in a file's name: file systems take 255 for the whole name."""


def export_vbench(videos: Sequence[tuple[str, bytes]], out: Path) -> Path:
    """Write videos, each with its prompt; equal prompts are counted.

    Returns:
        prompts.json.

    Raises:
        ValueError: see `check_free`.
    """
    check_free(out)
    folder = out / "videos"
    counts: Counter[str] = Counter()
    prompts: dict[str, str] = {}
    for prompt, data in videos:
        stem = file_stem(prompt)
        name = f"{stem}-{counts[stem]}.mp4"
        counts[stem] += 1
        prompts[name] = prompt
        with publish(str(folder / name)) as file:
            file.write(data)
    path = out / "prompts.json"
    write_text(str(path), json.dumps(prompts, indent=1, ensure_ascii=False))
    return path


def check_free(out: Path) -> None:
    """See that videos can be written there.

    Raises:
        ValueError: it is a file, or the folder holds other files: VBench would take them, too.
    """
    folder = out / "videos"
    check_folder(folder, f"--vbench {out}")
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(
            f"--vbench {out}: {folder} is not empty, and VBench takes every file in it; name another folder"
        )


def file_stem(prompt: str) -> str:
    """A prompt as a file's name can hold it."""
    plain = re.sub(r"[\x00-\x1f/\\]+", " ", prompt).strip().lstrip(".")
    return plain.encode()[:MAX_NAME_BYTES].decode(errors="ignore").strip() or "no prompt"
