"""The sequence that the blocks of a model see of a pack, and who sees whom in it."""

from dataclasses import dataclass

from torch import Tensor

from train.packing.batch import Pictures
from train.packing.segments import Segments, WindowLayout
from train.packing.shapes import Window


@dataclass(frozen=True, kw_only=True, slots=True)
class JointKeys:
    """Keys of the tokens of a window: these tokens, then the context of their segment."""

    queries: WindowLayout
    order: Tensor  # (K,) int64 into the N tokens of the sequence, then the M' of the context
    segments: Segments  # over K: one for each group of the queries


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeLayout:
    """What layers along time see. Images and in-context tokens skip them."""

    window: WindowLayout  # of the places of frames, along time
    neighbors: Tensor  # (N, 3) int64: the patch at this place one frame before, itself, and after; N: there is none
    in_video: Tensor  # (N, 1) bool
    frames: Tensor  # (N,) float32: number of the frame, in the configured unit


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """The sequence that the blocks see: of each segment first its in-context tokens, then its patches.

    Where ranks share a pack, what has N or L entries is of this rank's own tokens; segments, groups and keys are of
    the whole.
    """

    segments: Segments  # over N = L + in-context tokens
    condition_ids: Tensor  # (N,) int64: the condition vector of each token
    order: Tensor | None  # (N,) int64 into in-context vectors, then caption tokens, then patches; None: only patches
    patches: Tensor | None  # (L,) int64: where the patches are; None: everywhere
    context_segments: Segments | None  # over what cross-attention reads
    context_order: Tensor | None  # int64 into vectors, then caption tokens; None: in stored order
    coordinates: (
        Tensor  # (N, 3) float32: place in the sample's grid, frames in the configured unit; (0, 0, 0) in context
    )
    sides: Tensor  # (N, 3) float32: of the sample's grid, in the same units
    groups: dict[Window, WindowLayout]
    neighbors: (
        Tensor | None
    )  # (N, 9) int64: the tokens around each within its frame; N: none. None: nothing reads them
    keys: dict[Window, JointKeys]  # of cross-attention that reads the window, too; empty: none does
    time: TimeLayout | None  # None: the blocks have no layers along time
    own_segments: Segments | None = None  # over this rank's own tokens; None: it has all
    own_context: Segments | None = None  # over what their cross-attention reads: a part of the context
    own_pictures: Pictures | None = None  # of the samples that they are of; None: those of the pack

    @property
    def readers(self) -> Segments:
        """Over the tokens of this rank, which cross-attention is of."""
        return self.segments if self.own_segments is None else self.own_segments

    @property
    def read(self) -> Segments | None:
        """Over what they read."""
        return self.context_segments if self.own_context is None else self.own_context

    def without_context(self, tokens: Tensor) -> Tensor:
        """(N, ...) to (L, ...): the patches alone."""
        return tokens if self.patches is None else tokens.index_select(0, self.patches)
