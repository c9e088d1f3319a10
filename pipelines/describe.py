"""What can be configured, from the settings' own models: YAML with comments that loads back, and a JSON schema."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, cast, get_args, get_origin

import annotated_types
import yaml
from pydantic import BaseModel, TypeAdapter, create_model
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pipelines.config import Config
from pipelines.keys import ANY, models_in, paths

SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
INDENT = "  "
MISSING = PydanticUndefined
"""The default of a key that has none."""


class Table(BaseModel):
    """A table of members of a union by name, as a section that has a key for each name."""


def described(section: str = "") -> str:
    """YAML of the defaults of a section, such as `train.optimizer`, under its parents; "" for all sections.

    A comment above each key gives its description with its unit, its type and its range. The other members of a union
    follow as comments.

    Raises:
        ValueError: no such section (with the nearest valid one).
    """
    lines: list[str] = []
    model: type[BaseModel] = Config
    value: Any = Config()
    for depth, name in enumerate(names := section.split(".") if section else []):
        field = _field(model, name, section)
        current = _as_section(getattr(value, _attribute(model, name), MISSING))
        if depth == len(names) - 1:
            return "\n".join([*lines, *_field_lines(name, field, current, depth)])
        lines.append(f"{INDENT * depth}{name}:")
        model, value = _member(field, current, names[depth + 1], section)
        if type(current) is not model and "kind" in model.model_fields:
            lines.append(f"{INDENT * (depth + 1)}kind: {model.model_fields['kind'].default}")
    return "\n".join(_model_lines(model, value, 0))


def schema(section: str = "") -> dict[str, Any]:
    """JSON schema of a section; "" for a whole configuration file.

    Raises:
        ValueError: no such section (with the nearest valid one).
    """
    model: type[BaseModel] = Config
    value: Any = Config()
    field: FieldInfo | None = None
    for name in section.split(".") if section else ():
        if field is not None:
            model, value = _member(field, value, name, section)
        field = _field(model, name, section)
        value = _as_section(getattr(value, _attribute(model, name), MISSING))
    if field is None:
        return Config.model_json_schema()
    found = TypeAdapter[Any](cast(Any, field.annotation)).json_schema()
    return found if field.description is None else {"description": field.description, **found}


def _attribute(model: type[BaseModel], key: str) -> str:
    """The name of the attribute behind a key: an alias where the key is a word of Python."""
    return next((name for name, field in model.model_fields.items() if (field.alias or name) == key), key)


def _field(model: type[BaseModel], key: str, section: str) -> FieldInfo:
    found = model.model_fields.get(_attribute(model, key))
    if found is None:
        raise _unknown(section)
    return found


def _as_section(value: Any) -> Any:
    """A table of members of a union as a `Table`; any other value as it is."""
    if isinstance(value, Mapping) and value and all(map(_has_kind, value.values())):
        fields: dict[str, Any] = {name: (type(one), one) for name, one in value.items()}
        return create_model("Named", __base__=Table, **fields)()
    return value


def _has_kind(value: Any) -> bool:
    return isinstance(value, BaseModel) and "kind" in type(value).model_fields


def _member(field: FieldInfo, current: Any, key: str, section: str) -> tuple[type[BaseModel], Any]:
    """The model that has the key: that of the default, else another member of the union."""
    of_default = [type(current)] if isinstance(current, BaseModel) else []
    others = [] if isinstance(current, Table) else models_in(field.annotation)
    for model in dict.fromkeys([*of_default, *others]):
        if _attribute(model, key) in model.model_fields:
            return model, current if type(current) is model else MISSING
    raise _unknown(section)


def _unknown(section: str) -> ValueError:
    known = [path for path in paths(Config) if ANY not in path]
    nearest = difflib.get_close_matches(section, known, n=1)
    meant = f"the nearest one is {nearest[0]}" if nearest else f"the sections are {', '.join(Config.model_fields)}"
    return ValueError(f"{section}: no such section or key; {meant}")


def _model_lines(model: type[BaseModel], value: Any, depth: int) -> Iterator[str]:
    for name, field in model.model_fields.items():
        current = field.get_default(call_default_factory=True, validated_data={}) if value is MISSING else None
        yield from _field_lines(field.alias or name, field, getattr(value, name, current), depth)


def _field_lines(key: str, field: FieldInfo, current: Any, depth: int) -> Iterator[str]:
    pad, models, current = INDENT * depth, list(models_in(field.annotation)), _as_section(current)
    shown = {type(one) for _, one in current} if isinstance(current, Table) else {type(current)}
    facts = "" if models or key == "kind" else _facts(field)
    if comment := f"{field.description or ''}{f' ({facts})' if facts else ''}".strip():
        yield f"{pad}# {comment}"
    if isinstance(current, BaseModel):
        yield f"{pad}{key}:" if type(current).model_fields else f"{pad}{key}: {{}}"
        yield from _model_lines(type(current), current, depth + 1)
    elif current is MISSING:
        yield f"{pad}{key}:  # required"
    else:
        dumped = TypeAdapter[Any](cast(Any, field.annotation)).dump_python(
            current, mode="json", by_alias=True, warnings=False
        )
        text = yaml.safe_dump({key: dumped}, sort_keys=False, allow_unicode=True, width=1000)
        yield from (f"{pad}{line}" for line in text.splitlines())
    for model in models:
        if model not in shown:
            yield f"{pad}# {_or(field, key)}"
            yield from (f"{pad}# {INDENT}{line}" for line in _model_lines(model, MISSING, 0))


def _or(field: FieldInfo, key: str) -> str:
    """What introduces a member that is not the default."""
    origin = get_origin(field.annotation)
    return f"a member of {key}:" if origin in (list, tuple, dict, Mapping) else f"or {key}:"


def _facts(field: FieldInfo) -> str:
    """Type and range: `int ≥ 1 or null`."""
    bounds = [
        f"{sign} {getattr(one, side)}"
        for one in field.metadata
        if isinstance(one, annotated_types.BaseMetadata)
        for side, sign in SIGNS.items()
        if hasattr(one, side)
    ]
    first, *others = _types(field.annotation)
    return " or ".join([" ".join([first, *bounds]), *others])


def _types(annotation: Any) -> list[str]:
    """Names of the types that a value may have, null last."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _types(arguments[0])
    if origin is Literal:
        return [", ".join(map(str, arguments))]
    if origin in (list, tuple):
        inner = [text for one in arguments if one is not Ellipsis for text in _types(one)]
        return [f"list of {' or '.join(dict.fromkeys(inner))}"]
    if origin in (dict, Mapping):
        return [f"table of {' or '.join(_types(arguments[1]))}"]
    if arguments:
        names = dict.fromkeys(text for one in arguments for text in _types(one))
        return sorted(names, key=lambda text: text == "null")
    return ["null" if annotation is type(None) else getattr(annotation, "__name__", str(annotation)).lower()]
