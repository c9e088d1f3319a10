"""README.md of an export: what it holds and how it was made, with the front matter of the Hugging Face hub."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from curate.export.base import Layout
from curate.export.source import SPLIT_NAMES, Source, captioned

MOST_ROWS = 8
"""Of a table of values, the most frequent first."""
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
LARGER = "1M<n<10M"
LICENCES = ("licence", "license")
"""Names of the user's own column that a licence stands in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """How the dataset was made.

    Attributes:
        name: of the dataset.
        version: of reelpack.
        rules: of the policy, by column: `min`, `max`, `in`, `not_in`.
        where: the condition of the export; None: none.
        captioners: by which models the captions are.
        caption_note: what a reader of the captions must know.
    """

    name: str
    version: str | None = None
    rules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    where: str | None = None
    captioners: Sequence[str] = ()
    caption_note: str | None = None


def card(layout: Layout, source: Source, origin: Origin) -> str:
    """Text of the README.md."""
    index = source.index
    tables = [
        "## Clips\n\n" + _table(["split", "videos", "images", "hours", "with a caption", "GiB"], _splits(source)),
        "## Sizes\n\n" + _table(["width × height", "clips"], _counts(_sizes(index))),
        *(
            f"## Licences\n\n`{name}`, a column of the user:\n\n" + _table([name, "clips"], _counts(index[name]))
            for name in index.column_names
            if name.lower() in LICENCES
        ),
    ]
    parts = [
        f"# {origin.name}",
        "Clips of videos with captions, in the layout " + f"`{layout.kind}`. DIR is this folder.",
        "## How to read it\n\n" + layout.guide(source).strip(),
        *tables,
        "## How it was made\n\n" + "\n".join(f"- {line}" for line in _made(source, origin)),
    ]
    return f"---\n{_front_matter(layout, source, origin)}---\n\n" + "\n\n".join(part.strip() for part in parts) + "\n"


def _front_matter(layout: Layout, source: Source, origin: Origin) -> str:
    count = source.index.num_rows
    facts: dict[str, Any] = {
        "pretty_name": origin.name,
        "task_categories": [f"text-to-{kind}" for kind in sorted(source.kinds, reverse=True)],
        "size_categories": [next((name for limit, name in SIZES if count < limit), LARGER)],
        "tags": ["video", "reelpack"],
    }
    files = [
        {"split": SPLIT_NAMES[split], "path": path} for split in source.splits if (path := layout.data_files(split))
    ]
    if files:
        facts["configs"] = [{"config_name": "default", "data_files": files}]
    return yaml.safe_dump(facts, sort_keys=False, allow_unicode=True)


def _splits(source: Source) -> Iterable[list[Any]]:
    for split, rows in source.splits.items():
        is_video = pc.equal(rows["kind"], "video")
        videos = pc.sum(is_video).as_py()
        hours = (pc.sum(rows.filter(is_video)["duration_s"]).as_py() or 0.0) / 3600 if videos else 0.0
        num_captioned, size = captioned(rows, source.level), pc.sum(rows["size"]).as_py() / 2**30
        yield [split, videos, rows.num_rows - videos, f"{hours:.2f}", num_captioned, f"{size:.2f}"]


def _sizes(index: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(*(index[name].cast(pa.string()) for name in ("width", "height")), " × ")


def _counts(values: pa.ChunkedArray) -> list[list[Any]]:
    counted = Counter("none" if value is None else str(value) for value in values.to_pylist())
    rows: list[list[Any]] = [list(one) for one in sorted(counted.items(), key=lambda one: (-one[1], one[0]))]
    if len(rows) > MOST_ROWS:
        others = rows[MOST_ROWS - 1 :]
        rows = [*rows[: MOST_ROWS - 1], [f"{len(others)} others", sum(count for _, count in others)]]
    return rows


def _made(source: Source, origin: Origin) -> Iterable[str]:
    yield f"by reelpack {origin.version or 'of an unknown version'}"
    for column, sides in origin.rules.items():
        yield f"`{column}`: " + ", ".join(f"{side} {value}" for side, value in sides.items())
    if origin.where:
        yield f"of the kept clips, those where `{origin.where}`"
    level = f"the level `{source.level}`" if source.level else "the most detailed level that a clip has"
    yield f"captions: {level}" + (f", by {', '.join(origin.captioners)}" if origin.captioners else "")
    if origin.caption_note:
        yield f"on the captions: {origin.caption_note}"


def _table(names: list[str], rows: Iterable[list[Any]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    """On one line, without what ends a cell."""
    return " ".join(str(value).split()).replace("|", "\\|")
