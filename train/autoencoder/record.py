"""The fingerprint.json of latents: what names them, and what is needed to decode them."""

import hashlib
from functools import cache
from typing import Any

import torch

from curate.encoders.base import PatchEncoder
from curate.encoders.fingerprint import library_versions
from curate.encoders.picture_states import PictureStates, PictureStatesConfig
from curate.media.readers.config import MediaConfig
from curate.schema import content_digest
from train.autoencoder.base import VideoAutoencoder
from train.autoencoder.config import EncodeConfig
from train.autoencoder.sizes import multiple_of
from train.autoencoder.stored import id_type
from train.data.fingerprint import LATENTS_VERSION

AS_BEFORE = {"store": "values", "posterior": "mean", "windows": "middle", "lone_frames": "none", "gray": []}
"""Settings that have no part in the fingerprint at these values: before there was a choice, they were the rule."""


def latents_record(
    config: EncodeConfig,
    autoencoder: VideoAutoencoder,
    media: MediaConfig,
    codebook: bytes | None,
    picture: PictureStates | None,
    features: PatchEncoder | None,
) -> dict[str, Any]:
    """Args:
    config: of the latents.
    autoencoder: that of `config`.
    media: what reads the frames.
    codebook: what lies beside latents that are stored as ids.
    picture, features: those of `config`.
    """
    saved = config.model_dump(mode="json")
    unnamed = {"autoencoder", "picture", "features"}  # by their fingerprints
    settings = {key: value for key, value in saved.items() if key not in unnamed and value != AS_BEFORE.get(key)}
    values = {
        "version": LATENTS_VERSION,
        "autoencoder_fingerprint": autoencoder.fingerprint,
        "channels": autoencoder.channels,
        "temporal_stride": autoencoder.temporal_stride,
        "spatial_stride": autoencoder.spatial_stride,
        "layout": "CTHW",
        "dtype": "float16",
    }
    beside: dict[str, Any] = {}
    if codebook is not None:
        assert autoencoder.codebook is not None
        num_codes = autoencoder.codebook.num_codes
        values["dtype"] = str(id_type(num_codes))
        beside = {"codebook": {"num_codes": num_codes, "sha256": hashlib.sha256(codebook).hexdigest()}}
    if picture is not None:
        values["picture_fingerprint"] = picture.fingerprint
        beside["picture"] = {"fingerprint": picture.fingerprint, "dim": picture.dim, "states": picture.num_states}
    if features is not None and config.features is not None:
        values["features_fingerprint"] = features.fingerprint
        beside["features"] = {"kind": config.features.kind, "fingerprint": features.fingerprint}
    if config.posterior != "sample":
        del settings["posterior_seed"]
    reader = media.build()
    if reader.key:
        values["reader"] = reader.key
    parts = [f"{key}={value}" for key, value in sorted({**values, **settings}.items())]
    return {
        "fingerprint": content_digest("latents", *parts)[:16],
        "autoencoder": autoencoder.name,
        "is_causal": autoencoder.is_causal,
        "sides_multiple_px": multiple_of(config.multiple_px, autoencoder.spatial_stride),
        **values,
        **beside,
        "config": saved,
        "libraries": {**library_versions("reelpack", "torch", "diffusers", "av"), **reader.read_by(None)},
        **({"media": media.model_dump(mode="json")} if reader.key else {}),
    }


def picture_states(record: dict[str, Any], device: torch.device | None) -> PictureStates:
    """The image encoder of the states of a fingerprint.json, loaded.

    Raises:
        ValueError: it has none, or the weights found now are not those that made the states.
    """
    config = config_of(record).picture
    if config is None:
        raise ValueError(f"latents {record['fingerprint']} have no states of pictures; encode.picture was not set")
    encoder = _loaded(config, device)
    if encoder.fingerprint != record["picture_fingerprint"]:
        raise ValueError(
            f"latents {record['fingerprint']}: the image encoder of {config.model} is not the one that made the "
            f"states of pictures ({record['picture_fingerprint'][:12]}, found {encoder.fingerprint[:12]}); put it back"
        )
    return encoder


@cache
def _loaded(config: PictureStatesConfig, device: torch.device | None) -> PictureStates:
    encoder = config.build(device)
    encoder.setup()
    return encoder


def config_of(record: dict[str, Any]) -> EncodeConfig:
    """The settings in a fingerprint.json, of an earlier reelpack too."""
    return EncodeConfig.model_validate({**AS_BEFORE, **record["config"]})
