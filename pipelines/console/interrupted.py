"""Ctrl-C: what an interrupted command leaves behind, and how to go on."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

GOES_ON = "the same command goes on from there"


class Interrupted(KeyboardInterrupt):
    """An interruption that says what stays valid."""


@contextmanager
def stays(what: Callable[[str], str], place: str) -> Iterator[None]:
    """Raise an interruption of the block as one that says what stays.

    Args:
        what: `of_dataset` or `of_run`.
        place: that the block writes to.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(what(place)) from error


def of_dataset(url: str) -> str:
    """What is published in a dataset."""
    from curate.dataset.dataset import Dataset

    dataset = Dataset(url)
    sections = dataset.sections()
    captioner = sections.get("caption_family")
    counts = {
        "inputs scanned": sum(row["outcome"] == "ok" for row in dataset.videos.rows()),
        "clips found": len(dataset.clips.rows()),
        "clips cut": len(dataset.shards.rows()),
        "captions": len(dataset.captions(captioner).rows()) if captioner else 0,
    }
    told = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    return f"{url} has {told or 'nothing yet'}; `reelpack status {url}` says more; {GOES_ON}"


def of_run(out: str) -> str:
    """The checkpoint that a run goes on from."""
    from train.run.checkpoint import list_checkpoints

    found = list_checkpoints(Path(out) / "checkpoints")
    if not found:
        return f"{out} has no checkpoint yet (train.checkpoint.every); the same command begins anew"
    return f"{out} has the checkpoint {found[-1].name}; {GOES_ON}"


def is_first_rank() -> bool:
    """Whether this process speaks for all of those that torchrun started, or is none of them."""
    return os.environ.get("RANK", "0") == "0"


def told_by(error: BaseException | None) -> str | None:
    """What an interruption that is behind an error says, "" if it says nothing; None where there is none."""
    found: str | None = None
    while error is not None:
        if isinstance(error, Interrupted):
            return str(error)
        if isinstance(error, KeyboardInterrupt):
            found = ""
        error = error.__cause__ or error.__context__
    return found
