"""The packed layout: latents of any length, height and width in one row of tokens (NaViT, Dehghani et al. 2023, §2).

Letters in shape comments: L tokens of a pack, S segments (samples) of it, R condition vectors, M text tokens,
K scalar conditions, D features.
A token never sees another segment: attention, conditions, positions, noise and loss are all per segment, so that a
pack computes what its samples would compute alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from train.packing.share import Share


class HostLengths:
    """Lengths of segments, for kernels that want them without waiting for a device.

    No dataclass and no sequence: what shards a model looks for tensors in whatever a block is given, item by item, and
    windows make thousands of segments.

    Attributes:
        lengths: S of them.
        ends: (S + 1,) int32, cumulated; they stay on the host when the segments move.
    """

    __slots__ = ("ends", "lengths")

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = tuple(lengths)
        self.ends = torch.zeros(len(lengths) + 1, dtype=torch.int32)
        self.ends[1:] = torch.tensor(lengths).cumsum(0)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, weakref_slot=True)
class Segments:
    """Consecutive runs of tokens.

    Where ranks share a pack, `segment_ids` are those of a rank's own tokens, and all else is of the whole pack: `sum`
    and `mean` give the part of the sum or mean that these tokens make.
    """

    cu_seqlens: Tensor  # (S + 1,) int32: segment i is tokens [cu_seqlens[i], cu_seqlens[i + 1])
    segment_ids: Tensor  # (L,) int64: the segment of each token
    host: HostLengths  # S of them
    num_tokens: int  # L

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device | str = "cpu") -> "Segments":
        """Segments of the given lengths, in order.

        Raises:
            ValueError: no segment, or one without tokens: variable-length kernels fail on those.
        """
        if not lengths or min(lengths) < 1:
            raise ValueError(f"got segment lengths {tuple(lengths)}; expected at least one segment, each with tokens")
        host = HostLengths(lengths)
        ids = torch.repeat_interleave(torch.arange(len(lengths)), host.ends.diff())
        return cls(
            cu_seqlens=host.ends.to(device), segment_ids=ids.to(device), host=host, num_tokens=int(host.ends[-1])
        )

    @classmethod
    def empty(cls) -> "Segments":
        """One segment without tokens: what a rank may have of a pack."""
        host, none = HostLengths([0]), torch.zeros(0, dtype=torch.int64)
        return cls(cu_seqlens=host.ends, segment_ids=none, host=host, num_tokens=0)

    @property
    def lengths(self) -> tuple[int, ...]:
        return self.host.lengths

    @property
    def num_segments(self) -> int:
        return len(self.host.lengths)

    def gather(self, rows: Tensor) -> Tensor:
        """One row per segment, (S, ...), to one row per token, (L, ...)."""
        return rows.index_select(0, self.segment_ids)

    def sum(self, tokens: Tensor) -> Tensor:
        """Sum over each segment: (L, ...) to (S, ...)."""
        return tokens.new_zeros(self.num_segments, *tokens.shape[1:]).index_add(0, self.segment_ids, tokens)

    def mean(self, tokens: Tensor) -> Tensor:
        """Mean over each segment: (L, D) to (S, D) float32."""
        return self.sum(tokens.float()) / self.cu_seqlens.diff()[:, None]

    def to(self, device: torch.device | str) -> "Segments":
        return map_tensors(self, lambda x: x.to(device, non_blocking=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyLayout:
    """Tokens that the groups of a window layout read, where they are others than their own."""

    segments: Segments  # over K: one for each group
    order: Tensor  # (K,) int64 into the N tokens of the pack


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowLayout:
    """The same tokens in another order, cut into other segments: how one attention serves every pattern.

    Token i of the regrouped pack is token `order[i]` of the pack. A token may be in several groups (in-context tokens
    are in all of their sample's); what the groups make of it is averaged.
    """

    segments: Segments  # over the regrouped tokens
    order: Tensor | None = None  # (G,) int64; None: the pack in stored order
    inverse: Tensor | None = None  # (N,) int64, of a permutation
    weights: Tensor | None = None  # (N,) float32, where tokens are repeated: 1 / number of groups
    share: Share | None = None  # of the pack: each rank has some of its N tokens; None: this one has all
    ring: "Ring | None" = None  # how this rank's queries meet the keys of others; None: heads are exchanged for tokens
    keys: KeyLayout | None = None  # None: a group reads its own tokens

    @classmethod
    def of(cls, order: Tensor, lengths: Sequence[int], *, averages: bool = False) -> "WindowLayout":
        """`averages`: as where tokens are repeated, though none may be: one code, which may be compiled, for packs in
        which some are and for packs in which none is."""
        segments, copies = Segments.of(lengths), order.bincount()
        if averages or copies.max() > 1:
            return cls(segments=segments, order=order, weights=1 / copies)
        return cls(segments=segments, order=order, inverse=order.argsort())

    def apply(self, tokens: Tensor) -> Tensor:
        """(N, ...) to (G, ...)."""
        if self.order is None:
            return tokens
        if self.inverse is not None:
            return _Permute.apply(tokens, self.order, self.inverse)
        return tokens.index_select(0, self.order)

    def undo(self, tokens: Tensor) -> Tensor:
        """(G, ...) to (N, ...), repeated tokens averaged in float32."""
        if self.order is None:
            return tokens
        if self.inverse is not None:
            return _Permute.apply(tokens, self.inverse, self.order)
        assert self.weights is not None
        weighted = tokens * self.weights.index_select(0, self.order).view(-1, *[1] * (tokens.ndim - 1))  # float32
        summed = weighted.new_zeros(len(self.weights), *tokens.shape[1:]).index_add(0, self.order, weighted)
        return summed.to(tokens.dtype)

    def to(self, device: torch.device | str) -> "WindowLayout":
        return map_tensors(self, lambda x: x.to(device, non_blocking=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Queries and keys of the groups that two ranks have tokens of."""

    queries: Tensor  # int64 into the regrouped tokens of the rank that asks
    keys: Tensor  # int64 into the tokens of the rank that is asked
    query_segments: Segments
    key_segments: Segments


@dataclass(frozen=True, kw_only=True, slots=True)
class Ring:
    """A rank's own tokens in the order of the groups, and by rank what they see of its tokens."""

    queries: WindowLayout
    pieces: dict[int, Piece]


class _Permute(torch.autograd.Function):
    """x[order], x of (N, ...). Its backward gathers by the inverse; `index_select` would add row by row to zeros."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None]:
        (inverse,) = ctx.saved_tensors
        return grad.index_select(0, inverse), None, None


Value = TypeVar("Value")


def map_tensors(value: Value, move: Callable[[Tensor], Tensor]) -> Value:
    """The same value with every tensor in it moved: dataclasses and mappings are entered."""
    moved: Any = value
    if isinstance(value, Tensor):
        moved = move(value)
    elif is_dataclass(value) and not isinstance(value, type):
        moved = replace(value, **{part.name: map_tensors(getattr(value, part.name), move) for part in fields(value)})
    elif isinstance(value, dict):
        moved = {key: map_tensors(part, move) for key, part in value.items()}
    return moved
