"""Autoencoders as they are given to a command. Nothing here needs torch."""

import json
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError

from train.autoencoder.config import AutoencoderConfig, ReelpackConfig
from train.autoencoder.temporal_decoder.config import TemporalDecoderConfig

EMBEDDED = "embedded"


def autoencoder_given(name: str) -> AutoencoderConfig:
    """The settings that `--autoencoder` names: `embedded`, a folder that `reelpack train-autoencoder` wrote, or
    settings in YAML.

    Raises:
        ValueError: settings that are none.
    """
    if name == EMBEDDED:
        return ReelpackConfig()
    if not name.lstrip().startswith("{"):
        return TemporalDecoderConfig(path=name) if _is_temporal_decoder(Path(name)) else ReelpackConfig(path=name)
    try:
        adapter: TypeAdapter[AutoencoderConfig] = TypeAdapter(AutoencoderConfig)
        return adapter.validate_python(yaml.safe_load(name))
    except (yaml.YAMLError, ValidationError) as error:
        raise ValueError(
            f"--autoencoder {name}: no settings of an autoencoder ({error}); expected such as "
            "'{kind: diffusers, path: FOLDER, subfolder: vae}', a folder of train-autoencoder, or embedded"
        ) from None


def _is_temporal_decoder(folder: Path) -> bool:
    """Whoever loads it says what is wrong with a folder."""
    try:
        kind = json.loads((folder / "config.json").read_text()).get("kind")
    except (OSError, ValueError, AttributeError):
        return False
    return bool(kind == TemporalDecoderConfig.model_fields["kind"].default)
