"""Latte (Ma et al. 2024, variant 1): blocks of PixArt-α within frames, which read the caption, and along time in
turn."""

from collections.abc import Mapping
from typing import Any, ClassVar

from train.convert.family import Family, Shape
from train.convert.pixart import block_ties, outer_ties, pixart_entries, pixart_shape
from train.convert.ties import Tie
from train.model.mixers.attention_config import AttentionConfig
from train.objective.config import AnyObjective
from train.objective.ddpm_config import DDPMConfig

NUM_FRAMES = 16
"""Frames that diffusers' class takes, and no other number; ours takes any."""


class Latte(Family):
    """`LatteTransformer3DModel`."""

    class_name: ClassVar[str] = "LatteTransformer3DModel"
    text: ClassVar[Mapping[str, Any]] = {"max_tokens": 120}
    required: ClassVar[Mapping[str, Any]] = {
        "norm_type": "ada_norm_single",
        "norm_eps": 1e-6,
        "norm_elementwise_affine": False,
        "attention_bias": True,
        "activation_fn": "gelu-approximate",
    }
    absent: ClassVar[Mapping[str, Any]] = {
        "norm_type": "layer_norm",
        "norm_eps": 1e-5,
        "norm_elementwise_affine": True,
        "attention_bias": False,
        "activation_fn": "geglu",
    }

    def shape(self, config: Mapping[str, Any]) -> Shape:
        side, patch = config["sample_size"], config["patch_size"]
        settings = {
            "mixer": AttentionConfig(pattern="alternating"),
            "cross_attention_in": "spatial",
            "sincos_extent": side // patch / max(side // 64, 1),
            "frame_positions": "temporal",
        }
        return pixart_shape(config, 2 * config["num_layers"], settings)

    def entries(self, shape: Shape) -> dict[str, Any]:
        return pixart_entries(shape, shape.config.depth // 2) | {"video_length": NUM_FRAMES}

    def ties(self, shape: Shape) -> list[Tie]:
        width, ties = shape.config.width, outer_ties(shape)
        for i in range(shape.config.depth // 2):
            ties += block_ties(f"blocks.{2 * i}", f"transformer_blocks.{i}", width, crosses=True)
            ties += block_ties(f"blocks.{2 * i + 1}", f"temporal_transformer_blocks.{i}", width, crosses=False)
        return ties

    def objective(self, shape: Shape, scheduler: Mapping[str, Any]) -> AnyObjective:
        """DDPM with the linear schedule of 1000 timesteps."""
        return DDPMConfig(learn_sigma=shape.num_outputs == 2)
