"""The keys of a configuration: their dotted names, and what pydantic's errors mean in them."""

import difflib
import types
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

ANY = "*"
"""In a path: any name that the user chooses, such as a column's."""
MIN_LIKENESS = 0.75
"""Of two names, as difflib measures it: above it one is taken for a slip of the other."""
MAX_DEPTH = 2
"""Sections, at most, between the place of a wrong key and that of the key that is meant."""


def explain(detail: ErrorDetails, root: type[BaseModel], columns: Iterable[str] = ()) -> str:
    """An error in the words of the user, on one line.

    Args:
        detail: of pydantic.
        root: the model that was validated.
        columns: paths that are keys of tables, beside the fields.
    """
    known = [*(name for name in paths(root) if ANY not in name), *columns]
    path = _dotted(detail["loc"], root, ends_with_a_key=detail["type"] == "extra_forbidden")
    if detail["type"] == "value_error":  # of a validator, which says what it got
        return f"{path}: {detail['ctx']['error']}"
    if detail["type"] != "extra_forbidden":
        return f"{path}: {detail['msg']} (got {detail['input']!r})"
    section, _, leaf = path.rpartition(".")
    siblings = _keys_at(detail["loc"], root)
    if path in known:  # of another member of the union
        return f"{path}: not a key of this kind; set {section}.kind to one that has it"
    if nearest := _like(leaf, siblings):
        return f"{path}: unknown key; the nearest valid one is {section and section + '.'}{nearest}"
    if elsewhere := _elsewhere(leaf, section, known, {*_set_by_default(root())}):
        return f"{path}: unknown key; the nearest valid one is {elsewhere}"
    where = f"the keys of {section}" if section else "the sections"
    return f"{path}: unknown key; {where} are {', '.join(siblings)}"


def _keys_at(location: tuple[int | str, ...], root: type[BaseModel]) -> list[str]:
    """Names of the keys that are allowed in the place of the last part of a location."""
    models: list[type[BaseModel]] = [root]
    for part in location[:-1]:
        fields = [field for model in models for name, field in _fields(model) if name == part]
        tagged = [one for one in models if (kind := one.model_fields.get("kind")) and kind.default == part]
        models = [child for field in fields for child in models_in(field.annotation)] or tagged or models
    return list(dict.fromkeys(name for model in models for name, _ in _fields(model)))


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """The fields by the names that users write."""
    return ((field.alias or name, field) for name, field in model.model_fields.items())


def _like(name: str, others: Iterable[str]) -> str | None:
    """The name that another one is a slip of, or a longer or shorter form of; None: there is none."""
    others = list(others)
    if found := _slip(name, others):
        return found
    parts = set(name.split("_"))
    forms = [other for other in others if parts < {*other.split("_")} or {*other.split("_")} < parts]
    return forms[0] if len(forms) == 1 else None


def _slip(name: str, others: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, others, 1, MIN_LIKENESS)), None)


def _set_by_default(settings: BaseModel, prefix: str = "") -> Iterator[str]:
    """Dotted names without those of the members of unions that have to be named."""
    for attribute, field in type(settings).model_fields.items():
        yield (name := f"{prefix}{field.alias or attribute}")
        value = getattr(settings, attribute)
        if isinstance(value, BaseModel):
            yield from _set_by_default(value, f"{name}.")


def _elsewhere(leaf: str, section: str, known: Sequence[str], usual: Collection[str]) -> str | None:
    """The key of this name, or nearly of it, in another place of the first section, not far below, and nearer where it
    is none of the `usual` ones; or of this very name in another section, where there is one alone."""
    first = section.partition(".")[0]
    inside = [path for path in known if path.startswith(f"{first}.")] if first else list(known)
    depth = 1 + section.count(".")
    inside = [path for path in inside if path.count(".") - depth <= (MAX_DEPTH if path in usual else 1)]
    nearest = _slip(leaf, {path.rpartition(".")[2] for path in inside})
    found = sorted((path for path in inside if path.rpartition(".")[2] == nearest), key=lambda path: path.count("."))
    outside = [path for path in known if path.endswith(f".{leaf}") and not path.startswith(f"{first}.")]
    return found[0] if found else outside[0] if len(outside) == 1 else None


def _dotted(location: tuple[int | str, ...], root: type[BaseModel], ends_with_a_key: bool) -> str:
    """The path as a user writes it: without the tags that pydantic puts in for the members of unions."""
    known, parts, pattern, models = set(paths(root)), list[str](), list[str](), [root]
    for position, part in enumerate(location):
        tagged = [one for one in models if (kind := one.model_fields.get("kind")) and kind.default == part]
        if tagged and len(models) > 1:  # a tag, though another member has a field of this name
            models = tagged
            continue
        fields = [field for model in models for name, field in _fields(model) if name == part]
        models = [child for field in fields for child in models_in(field.annotation)] or models
        found = next((name for name in (str(part), ANY) if ".".join([*pattern, name]) in known), None)
        is_last = position == len(location) - 1
        if found or isinstance(part, int) or (is_last and ends_with_a_key):
            parts.append(str(part))
            pattern.append(found or str(part))
    return ".".join(parts)


def paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of all fields, through nested models and the members of unions; `ANY` for a name in a table, beside
    those that it has by default."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{field.alias or name}"
        is_table = get_origin(field.annotation) in (dict, Mapping)
        if is_table:
            yield f"{prefix}{name}.{ANY}"
            default = field.get_default(call_default_factory=True, validated_data={})
            for entry, value in default.items() if isinstance(default, Mapping) else ():
                yield f"{prefix}{name}.{entry}"
                yield from paths(type(value), f"{prefix}{name}.{entry}.") if isinstance(value, BaseModel) else ()
        for child in models_in(field.annotation):
            yield from paths(child, f"{prefix}{name}.{ANY}." if is_table else f"{prefix}{name}.")


def models_in(annotation: Any) -> Iterable[type[BaseModel]]:
    if get_origin(annotation) in (Union, types.UnionType, Annotated, tuple, list, dict, Mapping):
        return [model for part in get_args(annotation) for model in models_in(part)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []
