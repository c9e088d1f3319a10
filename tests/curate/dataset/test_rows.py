"""Rows of the tables say what their values say."""

import pytest

from curate.dataset.rows import failure_row
from curate.schema import RETRYABLE, Failure, FailureKind


@pytest.mark.parametrize("kind", list(FailureKind))
def test_a_failure_is_retryable_where_its_kind_may_pass(kind: FailureKind) -> None:
    failure = Failure(subject="a.mp4", step="scan", kind=kind, detail="x", attempts=2)
    row = failure_row(failure, "key", "reelpack retry D")
    assert row["retryable"] == (kind in RETRYABLE)
    assert (row["kind"], row["attempts"], row["retry_command"]) == (str(kind), 2, "reelpack retry D")
    assert {FailureKind.MISSING, FailureKind.IO} < RETRYABLE and FailureKind.CORRUPT not in RETRYABLE
