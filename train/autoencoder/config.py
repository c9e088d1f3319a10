"""The family of autoencoders: one line per member."""

from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from train.autoencoder.base import VideoAutoencoder
from train.autoencoder.diffusers_vae import DiffusersAutoencoderConfig
from train.autoencoder.embedded import ReelpackKLConfig

AutoencoderConfig = Annotated[ReelpackKLConfig | DiffusersAutoencoderConfig, Field(discriminator="kind")]


def autoencoder_of(record: dict[str, Any]) -> VideoAutoencoder:
    """The autoencoder that made the latents of a `fingerprint.json`, to decode what was trained on them.

    Raises:
        ValueError: The weights found now are not those that made the latents.
    """
    config: AutoencoderConfig = TypeAdapter(AutoencoderConfig).validate_python(record["config"]["autoencoder"])
    autoencoder: VideoAutoencoder = config.build()
    if autoencoder.fingerprint != record["autoencoder_fingerprint"]:
        raise ValueError(
            f"autoencoder {autoencoder.name}: got weights {autoencoder.fingerprint}, the latents were made with "
            f"{record['autoencoder_fingerprint']}; put the weights back, or encode and train again"
        )
    return autoencoder
