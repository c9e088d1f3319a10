"""The space of latents: what a model's inputs and outputs mean. Another autoencoder's latents are noise to it."""

from collections.abc import Mapping
from typing import Any

LATENT_SPACE = ("autoencoder_fingerprint", "channels", "temporal_stride", "spatial_stride")
"""What latents of one run agree in: clips may differ in size and rate."""
SHOWN_DIGITS = 12
"""Of the hash of weights, in messages."""


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """In which of `LATENT_SPACE` two records of latents differ; what a record does not say agrees with all."""
    return [
        name
        for name in LATENT_SPACE
        if None not in (values := (one.get(name), other.get(name))) and values[0] != values[1]
    ]


def described_latents(record: Mapping[str, Any]) -> str:
    """A fingerprint.json of latents in a message: its name, and what is known of the space and of what is stored."""
    config = record.get("config") or {}
    told = {
        "autoencoder": record.get("autoencoder"),
        "weights": str(record.get("autoencoder_fingerprint") or "")[:SHOWN_DIGITS],
        "channels": record.get("channels"),
        "frames of a position": record.get("temporal_stride"),
        "px of a position": record.get("spatial_stride"),
        "posterior": config and config.get("posterior", "mean"),
        "stored": config and _store(config.get("store", True)),
        "max_area_px": config.get("max_area_px"),
        "max_frames": config.get("max_frames"),
        "fps": config.get("fps"),
        "windows": config and config.get("windows", "middle"),
        "frames encoded alone": config.get("lone_frames"),
    }
    facts = ", ".join(f"{name} {value}" for name, value in told.items() if value)
    return " ".join(filter(None, (record.get("fingerprint"), facts and f"({facts})")))


def _store(setting: Any) -> str:
    return {True: "values", False: "sizes alone"}.get(setting, str(setting))
