from collections.abc import Iterator

import pytest
from rich.console import Console

from curate.schema import Failure, FailureKind
from pipelines import progress


def outcomes() -> Iterator[tuple[int, object]]:
    for number in range(10):
        failure = Failure(subject=str(number), step="double", kind=FailureKind.IO, detail="")
        yield number, failure if number % 4 == 3 else 2 * number


@pytest.mark.parametrize("is_terminal", [False, True])
def test_items_pass_through_and_failures_are_counted(is_terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(record=True, quiet=False, force_terminal=is_terminal, width=120)
    monkeypatch.setattr(progress, "console", console)
    assert list(progress.track(outcomes(), 10, "double")) == list(outcomes())
    said = console.export_text()
    assert "double" in said
    assert "10/10" in said
    assert "2 failed" in said


def test_items_without_outcomes_are_no_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(record=True, force_terminal=False, width=120)
    monkeypatch.setattr(progress, "console", console)
    assert list(progress.track(["a", (), ("b", "c")], 3, "read")) == ["a", (), ("b", "c")]
    assert "failed" not in console.export_text()
