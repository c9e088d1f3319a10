"""Who works on which part: owners of a shared lease claim parts by name, and no two have one at the same time.

The claims of an owner are in the file of its lease. They end with the lease: parts of a process that was killed are
free as soon as its lease has ended.
"""

from collections.abc import Callable, Iterable, Sequence

from curate.storage.lease import Lease, hold
from curate.storage.owner import Owner

NAME = "claims"
WAIT_S = 600.0
"""For others that claim: moments each, but half a minute where one finds the lease of a lost machine."""


class Claims:
    """What this process claims, among others that share its lease."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease

    def take(self, choose: Callable[[Sequence[Owner]], Iterable[str]]) -> tuple[str, ...]:
        """Give back what this process has claimed, and claim other parts, in one step.

        Args:
            choose: what to claim, given the other owners with their claims. No claim changes during the call.

        Raises:
            LeaseLost: the lease of this process has ended.
        """
        with hold(self._lease.folder, NAME, wait_s=WAIT_S):
            chosen = tuple(choose(self._lease.others()))
            self._lease.announce(chosen)
        return chosen

    def give_back(self) -> None:
        """Claim nothing."""
        self._lease.announce(())
