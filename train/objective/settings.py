"""What settings of objectives share. Nothing here needs torch."""

from typing import Literal, TypeAlias

Reduction: TypeAlias = Literal["sample", "token"]
"""A step's loss is the mean over its samples, or over its tokens, of all ranks and packs."""
