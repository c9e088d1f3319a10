"""A family of settings with one more member, added as a developer adds it: a file, and a line in the union."""

import sys
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel


def members(union: Any) -> list[type[BaseModel]]:
    """The classes of a union such as `Annotated[A | B, Field(discriminator="kind")]`."""
    if get_origin(union) is Annotated:
        return members(get_args(union)[0])
    return list(get_args(union)) if get_origin(union) in (Union, type(int | str)) else [union]


def with_member(config: ModuleType, module: str, name: str, *, after: str, line: str = "") -> ModuleType:
    """The family's `config.py` with `name` from `module` imported, and on a line of its own below `after`.

    The line is `| NAME` where no other is given.

    The changed text is run as another module: the family itself stays as it is.
    """
    assert config.__file__ is not None
    text = Path(config.__file__).read_text()
    first_import = text.index("\nfrom ")
    text = f"{text[:first_import]}\nfrom {module} import {name}{text[first_import:]}"
    before, found, rest = text.partition(f"    {after}")
    assert found, f"{config.__file__} has no line {after!r}"
    end = "," if rest.startswith(",") else ""
    extended = module_from_spec(spec_from_loader(f"{config.__name__}_with_{name}", loader=None))
    sys.modules[extended.__name__] = extended  # where pydantic looks up the names of annotations
    exec(f"{before}    {after}\n    {line or f'| {name}'}{end}{rest.removeprefix(',')}", extended.__dict__)
    return extended


def with_field(config: ModuleType, module: str, name: str, line: str, *, after: str) -> ModuleType:
    """The same for a family whose members are the fields of a section: `line` declares the new one."""
    assert config.__file__ is not None
    text = Path(config.__file__).read_text()
    assert f"    {after}\n" in text, f"{config.__file__} has no line {after!r}"
    text = text.replace(f"    {after}\n", f"    {after}\n    {line}\n")
    text = text.replace("\nfrom ", f"\nfrom {module} import {name}\nfrom ", 1)
    extended = module_from_spec(spec_from_loader(f"{config.__name__}_with_{name}", loader=None))
    sys.modules[extended.__name__] = extended
    exec(text, extended.__dict__)
    return extended
