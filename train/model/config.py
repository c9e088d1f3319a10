"""The family of denoisers, one line per member."""

from typing import TypeAlias

from train.model.dit_config import DiTConfig

ModelConfig: TypeAlias = DiTConfig
