"""PixArt-α (Chen et al. 2023) and PixArt-Σ (Chen et al. 2024): DiT with adaLN-single and cross-attention to T5.

An image model, which learns variances. Its positions span the same extent whatever the size of an image, and the model
of 1024 px of α is told height, width and aspect ratio.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from train.convert.family import Family, Shape
from train.convert.ties import Tie, attention, channels_first, flat, flat_patches, layers, tied
from train.model.caption_config import CaptionConfig
from train.model.dit_config import DiTConfig
from train.objective.config import AnyObjective
from train.objective.ddpm_config import DDPMConfig

LATENT_PX = 8
"""Pixels of a latent position of its autoencoders, those of Stable Diffusion 1 and XL."""


class PixArt(Family):
    """`PixArtTransformer2DModel`."""

    class_name: ClassVar[str] = "PixArtTransformer2DModel"
    text: ClassVar[Mapping[str, Any]] = {"max_tokens": 300}
    of_images: ClassVar[bool] = True
    required: ClassVar[Mapping[str, Any]] = {
        "norm_type": "ada_norm_single",
        "norm_eps": 1e-6,
        "norm_elementwise_affine": False,
        "attention_bias": True,
        "activation_fn": "gelu-approximate",
        "attention_type": "default",
    }

    def shape(self, config: Mapping[str, Any]) -> Shape:
        side, patch = config["sample_size"], config["patch_size"]
        told = config.get("use_additional_conditions")
        settings = {
            "sincos_extent": side // patch / (config.get("interpolation_scale") or max(side // 64, 1)),
            "condition_on_size": LATENT_PX if (side == 128 if told is None else told) else None,
        }
        return pixart_shape(config, config["num_layers"], settings)

    def entries(self, shape: Shape) -> dict[str, Any]:
        return pixart_entries(shape, shape.config.depth) | {
            "interpolation_scale": 1,
            "use_additional_conditions": shape.config.condition_on_size is not None,
        }

    def ties(self, shape: Shape) -> list[Tie]:
        blocks = [
            tie
            for i in range(shape.config.depth)
            for tie in block_ties(f"blocks.{i}", f"transformer_blocks.{i}", shape.config.width, crosses=True)
        ]
        return outer_ties(shape) + blocks

    def objective(self, shape: Shape, scheduler: Mapping[str, Any]) -> AnyObjective:
        """DDPM with the linear schedule of 1000 timesteps."""
        return DDPMConfig(learn_sigma=shape.num_outputs == 2)


def pixart_shape(config: Mapping[str, Any], depth: int, settings: Mapping[str, Any]) -> Shape:
    """Of a config.json of PixArt or of what is built from its blocks; `settings` are further ones of the model."""
    width = config["num_attention_heads"] * config["attention_head_dim"]
    channels = config["in_channels"]
    outputs = config.get("out_channels") or channels
    if outputs not in (channels, 2 * channels) or config["cross_attention_dim"] != width:
        raise ValueError(
            f"config.json: got in_channels {channels}, out_channels {outputs}, cross_attention_dim "
            f"{config['cross_attention_dim']}; expected as many outputs as inputs, or with learned variances twice as "
            f"many, and cross-attention to the model's own width, {width}"
        )
    if not config["caption_channels"]:
        raise ValueError("config.json: got no caption_channels; expected the width of the text encoder")
    model = DiTConfig(
        width=width,
        depth=depth,
        num_heads=config["num_attention_heads"],
        patch=(1, config["patch_size"], config["patch_size"]),
        qk_norm=False,
        position="sincos",
        adaln="shared",
        final_adaln="table",
        cross_attention_norm="none",
        caption=CaptionConfig(norm=False, pooled=False, absent="zeros"),
        condition_on_fps=False,
        **settings,
    )
    num_outputs = outputs // channels
    return Shape(config=model, channels=channels, text_dim=config["caption_channels"], num_outputs=num_outputs)


def pixart_entries(shape: Shape, num_layers: int) -> dict[str, Any]:
    """What PixArt and Latte have in config.json."""
    model = shape.config
    patch = model.patch[1]
    return {
        "num_attention_heads": model.num_heads,
        "attention_head_dim": model.width // model.num_heads,
        "in_channels": shape.channels,
        "out_channels": shape.channels * shape.num_outputs,
        "num_layers": num_layers,
        "cross_attention_dim": model.width,
        "caption_channels": shape.text_dim,
        "patch_size": patch,
        "sample_size": round((model.sincos_extent or 32) * patch),
        "num_embeds_ada_norm": 1000,
    }


def outer_ties(shape: Shape) -> list[Tie]:
    """What is outside of the blocks."""
    model, embedders = shape.config, "adaln_single.emb"
    patch = model.patch[1:]
    ties = [
        tied("embed.weight", "pos_embed.proj.weight", form=flat_patches(shape.channels, *patch)),
        tied("embed.bias", "pos_embed.proj.bias"),
        *layers("conditioners.0.caption.mlp.0", "caption_projection.linear_1"),
        *layers("conditioners.0.caption.mlp.2", "caption_projection.linear_2"),
        *layers("shared_modulation", "adaln_single.linear"),
        tied("final.modulation.weight", "scale_shift_table", form=flat(2, model.width)),
        *layers("final.linear", "proj_out", form=channels_first(*patch)),
    ]
    names = {"timestep": "timestep_embedder"}
    if model.condition_on_size is not None:
        names |= {"size.side": "resolution_embedder", "size.aspect": "aspect_ratio_embedder"}
    for ours, theirs in names.items():
        ties += layers(f"conditioners.0.{ours}.mlp.0", f"{embedders}.{theirs}.linear_1")
        ties += layers(f"conditioners.0.{ours}.mlp.2", f"{embedders}.{theirs}.linear_2")
    return ties


def block_ties(ours: str, theirs: str, width: int, *, crosses: bool) -> list[Tie]:
    """`BasicTransformerBlock` of diffusers; `crosses`: with cross-attention."""
    return [
        tied(f"{ours}.modulation.linear.weight", f"{theirs}.scale_shift_table", form=flat(6, width)),
        *attention(f"{ours}.self_attentions.0", f"{theirs}.attn1"),
        *(attention(f"{ours}.cross_attention", f"{theirs}.attn2") if crosses else ()),
        *layers(f"{ours}.mlp.0", f"{theirs}.ff.net.0.proj"),
        *layers(f"{ours}.mlp.2", f"{theirs}.ff.net.2"),
    ]
