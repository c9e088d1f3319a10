"""Settings of other tools as TOML; Python's library reads it only."""

import json
from collections.abc import Mapping, Sequence
from typing import Any


def settings_name(split: str) -> str:
    """File of the settings of a split; `dataset.toml` is that of the clips to train on."""
    return "dataset.toml" if split == "train" else f"dataset_{split}.toml"


def toml(table: Mapping[str, Any], **tables: Sequence[Mapping[str, Any]]) -> str:
    """Keys of the file, then arrays of tables by name. Values are texts, numbers, truth values and lists of them,
    which JSON writes in the same way; a table within `table` is a section."""
    sections = {name: value for name, value in table.items() if isinstance(value, Mapping)}
    blocks = [_lines({name: value for name, value in table.items() if name not in sections})]
    blocks += [f"[{name}]\n{_lines(section)}" for name, section in sections.items()]
    blocks += [f"[[{name}]]\n{_lines(one)}" for name, ones in tables.items() for one in ones]
    return "\n".join(block for block in blocks if block)


def _lines(table: Mapping[str, Any]) -> str:
    return "".join(f"{name} = {_value(value)}\n" for name, value in table.items())


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
