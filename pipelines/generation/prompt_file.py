"""A file of prompts: a line each (.txt), or with settings of their own (.jsonl, .csv)."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.generation.asked import FILES, Asked, problems_of
from train.sampling.config import SampleConfig
from train.sampling.given_files import GivenFiles
from train.sampling.request import size_of

MOST_TOLD = 10
"""Lines of a file that one message names."""
KINDS = (".txt", ".jsonl", ".csv")


class PromptLine(BaseModel):
    """One prompt. What is left out is as the command says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str = Field("", description="what to show")
    seed: int | None = Field(
        None, ge=0, description="of the noise; none: sample.seeds, or the next one of sample.seed"
    )
    size: str | None = Field(None, description="WIDTHxHEIGHT, px")
    frames: int | None = Field(None, ge=1, description="number of frames")
    negative: str | None = Field(None, description="prompt that guidance leads away from")
    label: str | None = Field(None, description="class of the run")
    end: str | None = Field(None, description="picture to end with, or clip to lead to")
    keys: dict[int, str] | None = Field(None, description="pictures by number of a frame")
    loop: bool = Field(False, description="return to the start")
    video: str | None = Field(None, description="video to edit (mask, sample.strength) or to extend")
    mask: str | None = Field(None, description="white where the video is made new")
    invert: str | None = Field(None, description="video to edit by inversion")
    extend: Literal["back", "forward"] | None = Field(None, description="what leads to the video, or follows it")
    start: str | None = Field(
        None, description="picture or clip to begin with; a relative path is from the file's folder"
    )


def read_prompts(file: Path, size: str, num_frames: int, config: SampleConfig) -> list[tuple[int, Asked]]:
    """What a file asks for, with the number of its line: one video for each prompt and seed.

    Args:
        file: .txt, .jsonl or .csv, in UTF-8.
        size: where a line has none.
        num_frames: likewise.
        config: seeds of lines that have none.

    Raises:
        ValueError: lines that cannot be used, each by its number; nothing is generated.
    """
    if file.suffix.lower() not in KINDS:
        raise ValueError(f"--prompts {file}: expected a file {', '.join(KINDS)}")
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"--prompts {file}: is not in UTF-8 ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise ValueError(f"--prompts {file}: cannot be read ({error.strerror}); expected a file of prompts") from error
    found: list[tuple[int, Asked]] = []
    refused: dict[int, str] = {}
    for order, (number, values) in enumerate(_lines(text, file)):
        try:
            found += [(number, one) for one in _asked(_line(values), order, file.parent, size, num_frames, config)]
        except ValueError as error:
            refused[number] = str(error)
    if refused:
        told = f"{len(refused)} lines cannot be used; correct them or leave them out"
        raise ValueError(f"--prompts {file}: {told}:{listed(refused)}")
    if not found:
        raise ValueError(f"--prompts {file}: has no prompt")
    return found


def listed(refused: Mapping[int, str]) -> str:
    """Numbers of lines and what is wrong with each, below each other; of many the first ones."""
    lines = "".join(f"\n  line {number}: {problem}" for number, problem in islice(refused.items(), MOST_TOLD))
    return lines + (f"\n  and {len(refused) - MOST_TOLD} more lines" if len(refused) > MOST_TOLD else "")


def _lines(text: str, file: Path) -> Iterator[tuple[int, Any]]:
    """Number and content of each line that is not empty.

    Raises:
        ValueError: a CSV that cannot be read on.
    """
    kind = file.suffix.lower()
    if kind == ".csv":
        rows = csv.DictReader(io.StringIO(text, newline=""), restkey="", strict=True)
        try:
            for row in rows:
                yield rows.line_num, {name: value for name, value in row.items() if value or name == ""}
        except csv.Error as error:
            raise ValueError(
                f"--prompts {file}: line {rows.line_num} is no CSV ({error}); see that each quote has its end"
            ) from error
        return
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if line.strip():
            yield number, line.strip() if kind == ".jsonl" else {"prompt": line.strip()}


def _line(values: Any) -> PromptLine:
    """Raises ValueError in the words of the file."""
    if isinstance(values, str):
        values = json.loads(values)
        values = {"prompt": values} if isinstance(values, str) else values
    if not isinstance(values, dict):
        raise ValueError('expected settings by name, such as {"prompt": …}')
    if "" in values:
        raise ValueError("has more cells than the first line names columns")
    try:
        return PromptLine.model_validate(values)
    except ValidationError as error:
        raise ValueError(f"{problems_of(error)}; known are {', '.join(PromptLine.model_fields)}") from error


def _given(line: PromptLine, folder: Path) -> GivenFiles:
    """Files of a line; a relative path is from the folder."""
    files = {name: folder / path for name in FILES if (path := getattr(line, name)) is not None}
    keys = {number: folder / path for number, path in (line.keys or {}).items()}
    if missing := [str(path) for path in (*files.values(), *keys.values()) if not path.is_file()]:
        raise ValueError(f"there is no file {', '.join(missing)}")
    return GivenFiles(**files, keys=keys, extend=line.extend, loop=line.loop)


def _asked(
    line: PromptLine, order: int, folder: Path, size: str, num_frames: int, config: SampleConfig
) -> Iterator[Asked]:
    """One for each seed."""
    width, height = size_of(line.size or size, "size")
    given = _given(line, folder)
    if not (line.prompt or line.label or given):
        raise ValueError("has neither prompt nor label nor start; expected what to show")
    for seed in [line.seed] if line.seed is not None else config.seeds or [config.seed + order]:
        yield Asked(
            prompt=line.prompt,
            width=width,
            height=height,
            num_frames=line.frames or num_frames,
            seed=seed,
            label=line.label,
            negative=line.negative,
            given=given,
        )
