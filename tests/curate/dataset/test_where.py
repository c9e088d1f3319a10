"""`--where`: one condition over the columns of a table, and nothing else."""

import pyarrow as pa
import pytest

from curate.dataset.where import where

TABLE = pa.table(
    {
        "n": [1, 2, 3],
        "nsfw": [0.1, None, 0.5],
        "licence": ["CC0", "CC-BY", None],
        "tags": [["a"], ["b"], None],
        "order": [3, 2, 1],
    }
)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("nsfw < 0.2 and licence = 'CC0'", [1]),
        ("NSFW < 0.9", [1, 3]),
        ("nsfw >= 0.2 or nsfw is null", [2, 3]),
        ("coalesce(nsfw, 0) < 0.2", [1, 2]),
        ("not (nsfw < 0.2)", [3]),
        ("licence like 'CC%'", [1, 2]),
        ("list_contains(tags, 'a')", [1]),
        ('"order" > 1', [1, 2]),
        ("row_number() over (order by nsfw desc nulls last) <= 2", [1, 3]),
        ("true", [1, 2, 3]),
        ("null", []),
    ],
)
def test_rows_that_meet_a_condition_stay_in_their_order(condition: str, expected: list[int]) -> None:
    assert where(TABLE, condition)["n"].to_pylist() == expected


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("nsfv < 0.2", "there is no column nsfv; the nearest is nsfw$"),
        ("licence = CC0", "there is no column CC0; the columns are n, nsfw, .*; text stands in single quotes"),
        ("nsfw", "got DOUBLE, expected a condition that is true or false for each clip"),
        ("nsfw < 'high'", "Could not convert string 'high' to DOUBLE"),
        ("max(nsfw) < 1", "an aggregate is of all clips; write it as max"),
        ("unnest([true, true])", "several rows of one clip"),
        ("nsfw <", "syntax error"),
        ("", "selection list"),
        ("*", "expected a condition"),
        ("true, true", "single expression"),
        ("regexp_matches(licence, '(')", r"missing \)"),
    ],
)
def test_what_is_no_condition_is_told_on_one_line(condition: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as raised:
        where(TABLE, condition)
    assert str(raised.value).startswith("--where ") and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "condition",
    [
        "true; drop table clips",
        "n in (select 1) ; select 2",
        "true) from range(3) --",
        "exists (select 1 from read_csv('/etc/passwd'))",
        "exists (select 1 from '/etc/passwd')",
        "exists (select 1 from read_blob('s3://bucket/name'))",
        "exists (select 1 from TABLE)",
        "exists (select 1 from numbered)",
    ],
)
def test_nothing_else_is_run_or_read(condition: str) -> None:
    with pytest.raises(ValueError, match="--where"):
        where(TABLE, condition)


@pytest.mark.parametrize("name", ["__row", "__ROW"])
def test_a_column_of_any_name_is_the_users(name: str) -> None:
    table = pa.table({"n": [1, 2, 3], name: [2, 2, 0]})
    assert where(table, f"n = 3 or {name} = 7")["n"].to_pylist() == [3]


def test_columns_that_differ_in_case_alone_cannot_be_named() -> None:
    table = pa.table({"n": [1, 2], "A": [1, 2], "a": [2, 1]})
    assert where(table, "n = 1").num_rows == 1
    with pytest.raises(ValueError, match="A and a differ in case alone"):
        where(table, "a = 1")
