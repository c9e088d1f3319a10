"""Settings of models in one flat mapping: those of attention go to the mixer."""

from typing import Any

from train.model.dit_config import DiTConfig
from train.model.mixers.attention_config import AttentionConfig

MIXER = set(AttentionConfig.model_fields) - {"kind"}


def nested(**settings: Any) -> dict[str, Any]:
    """Settings of `train.model`: `pattern`, `kernel` and windows belong to its mixer, where that is attention."""
    mixer = {name: value for name, value in settings.items() if name in MIXER}
    rest = {name: value for name, value in settings.items() if name not in MIXER}
    return rest if "mixer" in rest or not mixer else rest | {"mixer": {"kind": "attention", **mixer}}


def dit_config(**settings: Any) -> DiTConfig:
    """A DiT's settings from flat ones."""
    return DiTConfig.model_validate(nested(**settings))
