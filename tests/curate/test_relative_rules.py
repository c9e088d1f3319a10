"""Bounds that are found in the values of the dataset's clips."""

import math

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from curate.rules import Rule
from curate.select import SelectConfig, absolute, broken, decide


def values(*numbers: float | None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(numbers, pa.float64())])


def clips(kind: str = "video", **columns: list[float | None]) -> pa.Table:
    num = len(next(iter(columns.values())))
    names = [f"{number:02d}" for number in range(num)]
    facts = {"clip_id": names, "video_id": names, "video_uri": names, "kind": [kind] * num}
    return pa.table({**facts, **{name: pa.array(column, pa.float64()) for name, column in columns.items()}})


@pytest.mark.parametrize("count", [1, 2, 5, 10, 99, 1000])
@pytest.mark.parametrize("percentile", [0, 0.1, 2.3, 10, 29, 50, 100])
def test_a_percentile_rejects_so_many_of_distinct_values_rounded_down(count: int, percentile: float) -> None:
    numbers = values(*np.random.default_rng(0).permutation(count).astype(float))
    num = min(math.floor(round(percentile * count, 6) / 100), count - 1)
    low, high = Rule(min_percentile=percentile), Rule(max_percentile=round(100 - percentile, 6))
    for rule, side in ((low.absolute(numbers), "min"), (high.absolute(numbers), "max")):
        assert rule.sides.keys() == {side}
        assert rule.broken_sides(numbers)[side].to_pylist().count(True) == num
        assert rule.sides[side] in numbers.to_pylist()


def test_equal_values_pass_together() -> None:
    numbers = values(*[0.5] * 9, 0.7)
    assert Rule(min_percentile=50).absolute(numbers).min == 0.5


def test_z_is_the_mean_plus_standard_deviations() -> None:
    numbers = values(1, 2, 3, 4, None)
    rule = Rule(min_z=-1, max_z=2).absolute(numbers)
    deviation = math.sqrt(1.25)
    assert rule.sides == {"min": pytest.approx(2.5 - deviation), "max": pytest.approx(2.5 + 2 * deviation)}
    assert Rule(min_z=3).absolute(values(0.1, 0.1, 0.1)).min == 0.1, "equal values all pass"


def test_the_order_of_the_clips_changes_no_bit() -> None:
    numbers = np.random.default_rng(1).normal(size=1000)
    rule = Rule(min_z=-1.5, max_percentile=90)
    assert rule.absolute(values(*numbers)) == rule.absolute(values(*numbers[::-1]))


def test_values_that_are_missing_do_not_count_and_without_any_there_is_no_bound() -> None:
    numbers = values(None, 1, math.nan, 2, None)
    assert Rule(max_percentile=50).absolute(numbers).max == 1
    assert Rule(min_percentile=10, max=3).absolute(values(None, None)).sides == {"max": 3}


def test_infinite_values_do_not_count_and_large_ones_do_not_overflow() -> None:
    assert Rule(min_z=-1).absolute(values(math.inf, 1, 3, -math.inf)).min == 1
    assert Rule(min_z=-1).absolute(values(1e308, -1e308, 1.5e308, -1.5e308)).min == pytest.approx(
        -1.2747548783981961e308
    )
    assert Rule(min_z=-1).absolute(values(1e-300, 3e-300)).min == pytest.approx(1e-300)


def test_of_an_absolute_and_a_relative_bound_the_tighter_one_counts() -> None:
    numbers = values(*range(10))
    assert Rule(min=4, min_percentile=20, min_z=-9).absolute(numbers).min == 4
    assert Rule(min=1, min_percentile=20).absolute(numbers).min == 2
    assert Rule(min=5, max_percentile=20).absolute(numbers).breaks(5), "no value passes: that is no mistake here"


@pytest.mark.parametrize("sides", [{"min_percentile": 60, "max_percentile": 40}, {"min_z": 1, "max_z": 0},
                                   {"min_percentile": 101}, {"min_z": math.nan}, {"min_percentil": 1}])  # fmt: skip
def test_impossible_relative_bounds_are_refused(sides: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Rule.model_validate(sides)


def test_a_relative_bound_on_text_is_refused() -> None:
    with pytest.raises(ValueError, match=r"select\.rules\.licence: min and max are for numbers"):
        SelectConfig(rules={"licence": Rule(min_z=1)}).rules_for({"licence": pa.string()})


def test_the_lowest_are_rejected_over_all_clips_even_those_that_another_rule_rejects() -> None:
    table = clips(own=[float(number) for number in range(10)], other=[0, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    config = SelectConfig(rules={"own": Rule(min_percentile=20), "other": Rule(min=1)})
    decided = decide(table, config)
    assert decided["decision"].to_pylist() == ["reject"] * 2 + ["keep"] * 8
    assert decided["reasons"].to_pylist()[:2] == [["other.min", "own.min"], ["own.min"]]


def test_images_do_not_count_where_a_rule_is_not_for_them() -> None:
    films, images = clips(duration_s=[1, 2, 3, 4]), clips("image", duration_s=[100] * 4)
    rules = {"duration_s": Rule(max_percentile=50)}
    assert absolute(rules, pa.concat_tables([films, images]))["duration_s"].max == 2


def test_an_early_exit_does_not_judge_by_a_bound_that_is_not_known_yet() -> None:
    config = SelectConfig(rules={"own": Rule(min_percentile=90, max=5)})
    assert broken({"own": 1.0}, "video", config) == []
    assert broken({"own": 6.0}, "video", config) == ["own.max"]
