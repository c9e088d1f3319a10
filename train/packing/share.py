"""Which tokens of a pack are where, when several ranks share it (context parallelism)."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextGroup:
    """The ranks that share the tokens of a pack, seen from one of them."""

    name: str  # of the process group
    rank: int  # in the group
    size: int


class Share:
    """Consecutive tokens of a sequence for each rank of a group, in its order; of two ranks one has a token more at
    most.

    No dataclass, as `HostLengths`: its tensors stay on the host.

    Attributes:
        group: the ranks.
        ends: (ranks + 1,) int64, cumulated: rank i has tokens [ends[i], ends[i + 1]).
        tokens: (N,) without memory of its own: how compilers see the length of the whole sequence.
    """

    __slots__ = ("ends", "group", "tokens")

    def __init__(self, num_tokens: int, group: ContextGroup) -> None:
        self.group = group
        self.ends = torch.arange(group.size + 1) * num_tokens // group.size
        self.tokens = torch.zeros(1).expand(num_tokens)

    @property
    def own(self) -> slice:
        """The tokens of this rank."""
        first, last = self.ends[self.group.rank : self.group.rank + 2].tolist()
        return slice(first, last)
