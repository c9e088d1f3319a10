"""One training in a run's folder at a time: the first rank holds the lease `train` on it for all of them."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from curate.storage.lease import STALE_S, Lease, Occupied, hold
from curate.storage.place import AnyPath
from train.distributed.ranks import RankGrid


@contextmanager
def hold_run(out: AnyPath, ranks: RankGrid, *, is_restart: bool) -> Iterator[Lease | None]:
    """Hold the run in `out` for the length of the block; the lease is the first rank's alone.

    Args:
        out: the run's folder.
        ranks: this rank; all of them come here together.
        is_restart: this may be in place of a lost machine's rank, whose lease outlives it for a while.

    Raises:
        ValueError: on every rank: another process trains there, which is named, or the folder cannot be written.
    """
    with ExitStack() as stack:
        lease, refusal = None, None
        if ranks.is_main:
            try:
                lease = stack.enter_context(hold(str(out), "train", wait_s=2 * STALE_S if is_restart else 0))
            except (Occupied, OSError) as error:
                refusal = str(error)
        refusal = ranks.all_gather_object(refusal)[0]
        if refusal is not None:
            raise ValueError(refusal)
        yield lease


def restarted_by_torchrun() -> bool:
    """Whether torchrun has started this process in place of one that was lost."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
