"""A stage: work on items, one outcome per item. It neither knows nor imports what runs it."""

from collections.abc import Sequence
from typing import Protocol, TypeVar, runtime_checkable

from curate.schema import Failure, FailureKind

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)


class Stage(Protocol[In, Out]):
    """Work on items: a cheap, picklable constructor, and one outcome per item in the order of the items.

    Attributes:
        step: Name of the work, as in the table of failures.
    """

    step: str

    def setup(self) -> None:
        """Load what the work needs, such as weights. Called once per worker, before `process`."""
        ...

    def process(self, items: Sequence[In]) -> Sequence[Out | Failure]:
        """The outcome of each item.

        Raises:
            RuntimeError, MemoryError: an item's error; the executor finds the item and calls `give_up`.
            Exception: any other, such as OSError for an output that cannot be written, stops the run.
        """
        ...

    def give_up(self, item: In, kind: FailureKind, detail: str, attempts: int) -> Out | Failure:
        """The outcome of an item that `process` raised on, or on which `attempts` workers died or hung."""
        ...


@runtime_checkable
class Prefetching(Protocol[In]):
    """A stage that can start on items before it is asked for their outcomes."""

    def prefetch(self, items: Sequence[In]) -> None:
        """Start on items, such as decode them. `process` is called with the same objects later, or never."""
        ...
