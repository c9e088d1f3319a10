"""The family of alignments, one line per member."""

from typing import Annotated, TypeAlias

from train.align.patches_config import PatchesConfig
from train.align.pooled_config import PooledConfig
from train.model.config import ByKind

AlignConfig: TypeAlias = Annotated[
    PooledConfig  # a vector per clip
    | PatchesConfig,  # a vector per token
    ByKind("pooled"),
]
