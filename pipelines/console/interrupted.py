"""Ctrl-C: what an interrupted command leaves, and how to resume."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

RESUMES = "the same command resumes from there"


class Interrupted(KeyboardInterrupt):
    """An interruption that says what stays valid."""

    def _render_traceback_(self) -> list[str]:
        """For notebooks, in the place of the traceback."""
        return [f"interrupted: {self}"]


@contextmanager
def stays(what: Callable[[str], str], place: str) -> Iterator[None]:
    """Turn an interruption of the block into one that says what stays valid.

    Args:
        what: `of_dataset`, `of_run`, `of_comparison`, `of_stages` or `of_captioner`.
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
        "inputs scanned": dataset.videos.read(["outcome"])["outcome"].to_pylist().count("ok"),
        "clips found": dataset.clips.read([]).num_rows,
        "clips cut": dataset.shards.read([]).num_rows,
        "captions": dataset.captions(captioner).read([]).num_rows if captioner else 0,
    }
    told = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    return f"{url} has {told or 'nothing yet'}; `reelpack status {url}` says more; {RESUMES}"


def of_run(out: str, section: str = "train") -> str:
    """The checkpoint that a run resumes from; `section` has its settings."""
    from curate.storage.place import path_of
    from train.run.checkpoint import list_checkpoints

    found = list_checkpoints(path_of(out) / "checkpoints")
    if not found:
        return f"{out} has no checkpoint yet ({section}.checkpoint.every); the same command starts from the beginning"
    return f"{out} has the checkpoint {found[-1].name}; {RESUMES}"


def of_comparison(out: str) -> str:
    """The runs of a comparison that are done."""
    from curate.storage.place import path_of

    done = len(list(path_of(out).glob("*/seed-*/summary.json")))
    return f"{out} has {done} whole run{'' if done == 1 else 's'}, and maybe a checkpoint of the next; {RESUMES}"


def of_stages(out: str) -> str:
    """The stages of a training that are done."""
    done = sorted(path.parent.parent.name for path in Path(out).glob("*/model/config.json"))
    return f"{out} has the whole stages {', '.join(done) or '(none)'}, and maybe a checkpoint of the next; {RESUMES}"


def of_captioner(out: str) -> str:
    """The checkpoint that the training of a captioner resumes from."""
    from caption.finetune.checkpoint import FILE

    if not (Path(out) / FILE).exists():
        return f"{out} has no checkpoint yet (train_captioner.checkpoint_every); the same command starts again"
    return f"{out} has a checkpoint; {RESUMES}"


def is_first_rank() -> bool:
    """Whether this process is the first rank of torchrun, or was not started by it."""
    return os.environ.get("RANK", "0") == "0"


def told_by(error: BaseException | None) -> str | None:
    """The message of the interruption that caused an error, "" if it has none; None if there was no interruption."""
    found: str | None = None
    while error is not None:
        if isinstance(error, Interrupted):
            return str(error)
        if isinstance(error, KeyboardInterrupt):
            found = ""
        error = error.__cause__ or error.__context__
    return found
