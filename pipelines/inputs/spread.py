"""Rows that hold several stretches of a file, with a text for each, as in Panda-70M's list: one row per stretch."""

import ast
import json
from collections.abc import Iterator, Mapping
from typing import Any

from curate.schema import Failure, FailureKind
from pipelines.inputs.sample import TEXT_KEYS
from pipelines.inputs.sources import failure_of

TIMES = ("timestamps", "timestamp")
"""Columns with pairs of moments, or with one."""


def spread(where: str, values: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]] | Failure]:
    """The rows that a row stands for; itself where it has no pairs of moments. Values that are lists of as many as
    there are stretches are divided among them.

    Args:
        where: The place of the row.
        values: Its values; a list may be written as text, as in CSV.
    """
    name = next((name for name in TIMES if _list_of(values.get(name)) is not None), None)
    if name is None:
        broken = next((name for name in TIMES if str(values.get(name, "")).startswith("[")), None)
        if broken is None:
            yield where, dict(values)
        else:
            yield failure_of(where, FailureKind.SPANS, f"{broken} is no list that can be read: {values[broken]}")
        return
    pairs = _list_of(values[name]) or []
    rest = {key: value for key, value in values.items() if key != name}
    if len(pairs) == 2 and not any(isinstance(end, list | tuple) for end in pairs):
        yield where, {**rest, "start": pairs[0], "end": pairs[1]}
        return
    lists = {key: found for key, value in rest.items() if (found := _list_of(value)) is not None}
    texts = next((key for key in TEXT_KEYS if key in lists), None)
    if texts is not None and len(lists[texts]) != len(pairs):
        detail = f"{texts} holds {len(lists[texts])} texts, {name} {len(pairs)} stretches"
        yield failure_of(where, FailureKind.CORRUPT, detail)
        return
    for number, pair in enumerate(pairs):
        start, end = pair if isinstance(pair, list | tuple) and len(pair) == 2 else (pair, None)
        own = {key: found[number] for key, found in lists.items() if len(found) == len(pairs)}
        yield f"{where}, stretch {number + 1}", {**rest, **own, "start": start, "end": end}


def _list_of(value: object) -> list[Any] | None:
    """A list, also one that is written as text, by JSON or by Python; None for anything else."""
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        try:
            value = json.loads(value)
        except ValueError:
            try:
                value = ast.literal_eval(str(value))
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                return None
    return value if isinstance(value, list) else None
