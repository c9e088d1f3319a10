"""Rules of the policy: what the value of one column must be for a clip to be kept.

Each column says what it holds and which rule applies by default: a scorer or a signal declares its own columns
(`curate.scores`, `curate.signals`). Columns that the user brings are ruled in the same way.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, fsum, sqrt
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

Value = bool | int | float | str
BOUNDS, SETS = ("min", "max"), ("in", "not_in")
SIDES = (*BOUNDS, *SETS)
RELATIVE = ("min_percentile", "max_percentile", "min_z", "max_z")
"""Bounds that are found in the values of the clips; see `Rule.absolute`."""
SIGNS = {"min": "≥", "max": "≤", "in": "in", "not_in": "not in"}
ALL_SIDES = (*SIDES, *RELATIVE)


class Rule(BaseModel):
    """What a clip's value must be. A side that is left out bounds nothing.

    `min` and `max` are for numbers and include the bound. `in` and `not_in` are for text, numbers and booleans. A
    column of lists passes `in` if one of its items is named, and `not_in` if none is. The relative bounds become `min`
    and `max` by `absolute`; until then they bound nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    min: float | None = Field(None, description="lowest value that passes")
    max: float | None = Field(None, description="highest value that passes")
    in_: tuple[Value, ...] | None = Field(None, alias="in", description="the values that pass")
    not_in: tuple[Value, ...] | None = Field(None, description="the values that do not pass")
    min_percentile: float | None = Field(
        None,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="percent of the dataset's clips that do not pass: those with the lowest values",
    )
    max_percentile: float | None = Field(
        None,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="percent of the dataset's clips that pass: the others have the highest values",
    )
    min_z: float | None = Field(
        None, allow_inf_nan=False, description="lowest that passes, standard deviations from the dataset's mean"
    )
    max_z: float | None = Field(
        None, allow_inf_nan=False, description="highest that passes, standard deviations from the dataset's mean"
    )

    @model_validator(mode="before")
    @classmethod
    def _known_sides(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and (unknown := sorted(set(given) - {*ALL_SIDES, "in_"})):
            raise ValueError(f"unknown side {', '.join(map(str, unknown))}: a rule has {', '.join(ALL_SIDES)}")
        return given

    @model_validator(mode="after")
    def _passes_something(self) -> Self:
        for suffix in ("", "_percentile", "_z"):
            low, high = getattr(self, f"min{suffix}"), getattr(self, f"max{suffix}")
            if low is not None and high is not None and low > high:
                raise ValueError(f"got min{suffix} {low} above max{suffix} {high}: no value can pass")
        if self.in_ == ():
            raise ValueError("got an empty `in`: no value can pass")
        return self

    @model_serializer
    def _given_sides(self) -> dict[str, Any]:
        sides = {side: getattr(self, side if side != "in" else "in_") for side in ALL_SIDES}
        return {
            side: list(value) if isinstance(value, tuple) else value
            for side, value in sides.items()
            if value is not None
        }

    @property
    def sides(self) -> dict[str, Any]:
        """The sides that bound something, in the order of `ALL_SIDES`."""
        return self._given_sides()

    @property
    def relative(self) -> dict[str, float]:
        """Those of the `sides` that are relative."""
        return {side: bound for side, bound in self.sides.items() if side in RELATIVE}

    def said(self, relative: Mapping[str, float]) -> str:
        """The rule in short: `≥ 0.06 and ≤ 0.97`, `in CC0, CC-BY`, `≥ 0.0213 (min_percentile 10)`.

        Args:
            relative: the bounds that its `min` and `max` come from, if any.
        """
        texts = [
            f"{SIGNS[side]} {', '.join(map(str, bound)) if isinstance(bound, list) else f'{bound:g}'}"
            for side, bound in self.sides.items()
            if side in SIDES
        ]
        origin = ", ".join(f"{side} {bound:g}" for side, bound in relative.items())
        return " and ".join(texts) + (f" ({origin})" if origin else "")

    def absolute(self, values: pa.ChunkedArray) -> "Rule":
        """The same rule with `min` and `max` instead of its relative bounds; of several the tightest.

        Of N finite values, `min_percentile: p` lets all but the ⌊pN/100⌋ lowest pass, and `max_percentile: p`
        all but the ⌊(100-p)N/100⌋ highest; equal values pass or break it together, so that fewer can break it. The
        bound is one of the values. `min_z: z` is the mean plus z standard deviations of the N values. Their order
        changes no bit.
        """
        if not self.relative:
            return self
        known = values.drop_null().to_numpy().astype(np.float64)
        known = np.sort(known[np.isfinite(known)])
        found = {side: _found(known, side, bound) for side, bound in self.relative.items()} if len(known) else {}
        low = [self.min, *(bound for side, bound in found.items() if side.startswith("min"))]
        high = [self.max, *(bound for side, bound in found.items() if side.startswith("max"))]
        bounds = {
            "min": max((bound for bound in low if bound is not None), default=None),
            "max": min((bound for bound in high if bound is not None), default=None),
        }
        return self.model_copy(update={**dict.fromkeys(RELATIVE), **bounds})  # unchecked: no value may pass

    def mismatch(self, kind: pa.DataType) -> str | None:
        """Why the rule cannot judge values of this type; None if it can."""
        item = kind.value_type if _is_list(kind) or pa.types.is_dictionary(kind) else kind
        if pa.types.is_null(item):
            return None
        bounds = {*BOUNDS, *RELATIVE} & self.sides.keys()
        if bounds and (_is_list(kind) or not _is_number(item)):
            return f"min and max are for numbers, and the column holds {_spoken(kind)}; use in or not_in"
        for side in ("in", "not_in"):
            for value in self.sides.get(side, ()):
                if not _fits(value, item):
                    return f"{side} names {value!r}, and the column holds {_spoken(kind)}"
        return None

    def broken_sides(self, values: pa.ChunkedArray, sides: Sequence[str] = SIDES) -> dict[str, pa.ChunkedArray]:
        """Side → boolean mask `(N,)` of the values that break it, for those of `sides` that bound something, without
        the relative ones.

        The mask is null where the value is null.
        """
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        if pa.types.is_null(values.type):
            return {side: values.cast(pa.bool_()) for side in self.sides if side in sides and side in SIDES}
        masks = {}
        for side, bound in self.sides.items():
            if side not in sides or side in RELATIVE:
                continue
            if side == "min":
                masks[side] = pc.less(values, bound)
            elif side == "max":
                masks[side] = pc.greater(values, bound)
            else:
                named = _is_named(values, bound)
                masks[side] = pc.invert(named) if side == "in" else named
        return masks

    def breaks(self, value: Any) -> bool:
        """Whether one value, not None, breaks the rule."""
        masks = self.broken_sides(pa.chunked_array([pa.array([value])]))
        return any(mask[0].as_py() for mask in masks.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One value that a scorer or a signal gives for each clip.

    Attributes:
        description: What it measures, with its unit.
        range: The lowest and the highest value that is possible.
        default: The rule that applies where the user sets none.
        is_required: Whether a clip waits for the value where a rule asks for it. Otherwise it passes without.
        for_images: Whether still images have the value. Where they do not, its rule passes over them.
        type: Arrow type. A policy cannot rule vectors: lists of float32 stay in the scorer's table.
    """

    description: str
    range: tuple[float, float] = (-math.inf, math.inf)
    default: Rule = field(default_factory=Rule)
    is_required: bool = True
    for_images: bool = True
    type: pa.DataType = field(default_factory=pa.float64)


def _found(values: np.ndarray, side: str, bound: float) -> float:
    """The value that a relative bound comes to, of N ≥ 1 sorted ones."""
    if side.endswith("_z"):
        if values[0] == values[-1]:
            return float(values[0])
        _, exponents = np.frexp(values[[0, -1]])
        scaled = np.ldexp(values, -exponents.max())  # to at most 1: squares of large numbers do not overflow
        mean = fsum(scaled) / len(scaled)
        deviation = sqrt(fsum((scaled - mean) ** 2) / len(scaled))
        return float(np.ldexp(mean + bound * deviation, exponents.max()))
    below = Fraction(str(bound)) * len(values) / 100
    place = min(int(below), len(values) - 1) if side == "min_percentile" else max(ceil(below) - 1, 0)
    return float(values[place])


def _is_named(values: pa.ChunkedArray, named: list[Value]) -> pa.ChunkedArray:
    """Whether the value, or one item of the list, is one of `named`; null where the value is null."""
    if not _is_list(values.type):
        found = _among(values, named)
        return pc.if_else(pc.is_valid(values), found, pa.scalar(None, pa.bool_()))
    column = values.combine_chunks()
    found = _among(pc.list_flatten(column), named)
    passing = pc.unique(pc.list_parent_indices(column).filter(found))
    rows = pa.array(range(len(column)), passing.type)
    return pa.chunked_array([pc.if_else(column.is_valid(), pc.is_in(rows, passing), pa.scalar(None, pa.bool_()))])


def _among(values: pa.Array | pa.ChunkedArray, named: list[Value]) -> pa.Array | pa.ChunkedArray:
    # Arrow knows no type where there is no value.
    return pc.is_in(values, pa.array([] if pa.types.is_null(values.type) else named, values.type))


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _fits(value: Value, kind: pa.DataType) -> bool:
    if isinstance(value, bool):
        return pa.types.is_boolean(kind)
    if isinstance(value, str):
        return pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return pa.types.is_floating(kind) or (pa.types.is_integer(kind) and value == int(value))


def _spoken(kind: pa.DataType) -> str:
    """The type in words."""
    if _is_list(kind):
        return f"lists of {_spoken(kind.value_type)}"
    if pa.types.is_dictionary(kind):
        return _spoken(kind.value_type)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    if pa.types.is_boolean(kind):
        return "true and false"
    return "numbers" if _is_number(kind) else str(kind)
