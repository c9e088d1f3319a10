"""A training run of seconds that can be sampled with the embedded weights: by prompts, from pictures."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from curate.encoders.text_config import TextEncoderConfig
from tests.support.latents import TEXT_DIM, smooth_clips, write_dataset
from train.autoencoder.config import EncodeConfig
from train.autoencoder.encode import EncodeStage
from train.data.text_embed import TextEmbedStage
from train.loop import train
from train.run.config import TrainConfig

SETTINGS = {
    "steps": 2,
    "device": "cpu",
    "model": {"width": 32, "depth": 1, "num_heads": 2},
    "data": {
        "plan": {"token_budget": 256, "packs_per_step": 1},
        "tasks": [{"kind": "unconditional"}, {"kind": "first_frames"}],
    },
    "evaluate": {"held_out": {"every": 0}, "captions": {"every": 0}},
}


def tiny_run(folder: Path) -> Path:
    """The folder of a run that was trained on `tiny_dataset`."""
    train(TrainConfig.model_validate(SETTINGS), str(tiny_dataset(folder / "dataset")), folder / "run")
    return folder / "run"


def tiny_dataset(root: Path, num_val: int = 2) -> Path:
    """Latents and captions that are said to be those of the embedded models."""
    latents = EncodeStage(EncodeConfig(windows="middle", max_area_px=6144), "").fingerprint_record()
    text = TextEmbedStage(TextEncoderConfig(device="cpu")).fingerprint_record()
    channels, width = latents["channels"] // 4, text["dim"] // TEXT_DIM
    clips = [
        replace(
            clip,
            latent=np.tile(clip.latent, (channels, 1, 1, 1)),
            short=None if clip.short is None else np.tile(clip.short, (1, width)),
            dense=None if clip.dense is None else np.tile(clip.dense, (1, width)),
        )
        for clip in smooth_clips(12, num_val=num_val)
    ]
    write_dataset(root, clips)
    (root / "latents/lat0/fingerprint.json").write_text(json.dumps(latents | {"fingerprint": "lat0"}))
    (root / "text/txt0/fingerprint.json").write_text(json.dumps(text | {"fingerprint": "txt0"}))
    return root
