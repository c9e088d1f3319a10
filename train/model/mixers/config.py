"""The family of token mixers, one line per member."""

from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field

from train.model.mixers.attention_config import AttentionConfig
from train.model.mixers.linear_config import LinearConfig
from train.model.mixers.mamba_config import MambaConfig
from train.model.mixers.pooling_config import PoolingConfig
from train.model.mixers.samba_config import SambaConfig
from train.model.mixers.sliding_config import SlidingConfig


def _attention_by_default(settings: Any) -> Any:
    return {"kind": "attention"} | settings if isinstance(settings, dict) else settings


MixerUnion: TypeAlias = Annotated[
    AttentionConfig  # softmax attention within windows
    | SlidingConfig  # softmax attention to neighbors in a scan order
    | LinearConfig  # ReLU in place of the softmax: linear cost
    | MambaConfig  # state spaces, in both directions
    | SambaConfig  # the two in turn
    | PoolingConfig,  # mean of a window: no cost, no weights
    Field(discriminator="kind"),
    BeforeValidator(_attention_by_default),
]
