"""Sana 1.0 and 1.5 (Xie et al. 2024, "Sana: Efficient High-Resolution Image Synthesis with Linear DiTs", §2.2).

An image model: linear attention, an MLP that convolves within the image, so that most have no positions, and
cross-attention to Gemma with heads of its own.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from train.convert.family import Family, Shape
from train.convert.ties import Form, Tie, attention, channels_first, flat, flat_patches, layers, tied
from train.model.caption_config import CaptionConfig
from train.model.dit_config import DiTConfig
from train.model.mixers.linear_config import LinearConfig
from train.objective.config import AnyObjective
from train.objective.flow_config import FlowConfig

SAMPLE_SIZE = 32
"""Of models without positions, to which it says nothing: side of a latent of 1024 px."""
PRODUCT = Form(ours=lambda x: x.flatten(1), theirs=lambda x: x[..., None, None], of_rows=False)
"""A convolution of 1 × 1, (D_out, D_in, 1, 1)."""
DEPTHWISE = Form(ours=lambda x: x.flatten(1), theirs=lambda x: x.unflatten(1, (1, 3, 3)), of_rows=False)
"""One of 3 × 3 of each feature, (D, 1, 3, 3)."""


class Sana(Family):
    """`SanaTransformer2DModel`."""

    class_name: ClassVar[str] = "SanaTransformer2DModel"
    text: ClassVar[Mapping[str, Any]] = {"max_tokens": 300}
    of_images: ClassVar[bool] = True
    required: ClassVar[Mapping[str, Any]] = {
        "norm_elementwise_affine": False,
        "norm_eps": 1e-6,
        "guidance_embeds": False,
        "dropout": 0.0,
    }

    def shape(self, config: Mapping[str, Any]) -> Shape:
        channels, heads = config["in_channels"], config["num_attention_heads"]
        width, outputs = heads * config["attention_head_dim"], config.get("out_channels") or channels
        cross = config["num_cross_attention_heads"], config["cross_attention_head_dim"], config["cross_attention_dim"]
        if channels != outputs or (cross[0] * cross[1], cross[2]) != (width, width):
            raise ValueError(
                f"config.json: got in_channels {channels}, out_channels {outputs}, {cross[0]} heads of {cross[1]} in "
                f"cross-attention, cross_attention_dim {cross[2]}; expected as many outputs as inputs, and in "
                f"cross-attention the model's own width, {width}"
            )
        if (qk_norm := config.get("qk_norm")) not in (None, "rms_norm_across_heads"):
            raise ValueError(f"config.json: got qk_norm {qk_norm}; expected null or rms_norm_across_heads")
        scale = config.get("interpolation_scale")
        model = DiTConfig(
            width=width,
            depth=config["num_layers"],
            num_heads=heads,
            mixer=LinearConfig(bias=config["attention_bias"]),
            mlp="gated_convolution",
            mlp_ratio=config["mlp_ratio"],
            patch=(1, config["patch_size"], config["patch_size"]),
            qk_norm="width" if qk_norm else False,
            qk_norm_eps=1e-5,
            position="none" if scale is None else "sincos",
            sincos_extent=None if scale is None else config["sample_size"] // config["patch_size"] / scale,
            timestep_scale=1000 * config.get("timestep_scale", 1.0),
            adaln="shared",
            final_adaln="table",
            cross_attention_norm="none",
            cross_attention_heads=cross[0],
            caption=CaptionConfig(norm=False, out_norm=True, pooled=False, absent="zeros"),
            condition_on_fps=False,
        )
        return Shape(config=model, channels=channels, text_dim=config["caption_channels"])

    def entries(self, shape: Shape) -> dict[str, Any]:
        model, patch = shape.config, shape.config.patch[1]
        cross_heads = model.cross_attention_heads or model.num_heads
        has_positions = model.position == "sincos"
        return {
            "in_channels": shape.channels,
            "out_channels": shape.channels,
            "num_attention_heads": model.num_heads,
            "attention_head_dim": model.width // model.num_heads,
            "num_layers": model.depth,
            "num_cross_attention_heads": cross_heads,
            "cross_attention_head_dim": model.width // cross_heads,
            "cross_attention_dim": model.width,
            "caption_channels": shape.text_dim,
            "mlp_ratio": model.mlp_ratio,
            "attention_bias": _has_bias(model),
            "sample_size": round((model.sincos_extent or 0) * patch) or SAMPLE_SIZE,
            "patch_size": patch,
            "interpolation_scale": 1 if has_positions else None,
            "qk_norm": "rms_norm_across_heads" if model.qk_norm else None,
            "timestep_scale": model.timestep_scale / 1000,
        }

    def ties(self, shape: Shape) -> list[Tie]:
        model, timestep, patch = shape.config, "time_embed.emb.timestep_embedder", shape.config.patch[1:]
        normed, bias = bool(model.qk_norm), _has_bias(model)
        ties = [
            tied("embed.weight", "patch_embed.proj.weight", form=flat_patches(shape.channels, *patch)),
            tied("embed.bias", "patch_embed.proj.bias"),
            *layers("conditioners.0.timestep.mlp.0", f"{timestep}.linear_1"),
            *layers("conditioners.0.timestep.mlp.2", f"{timestep}.linear_2"),
            *layers("conditioners.0.caption.mlp.0", "caption_projection.linear_1"),
            *layers("conditioners.0.caption.mlp.2", "caption_projection.linear_2"),
            tied("conditioners.0.caption.out_norm.weight", "caption_norm.weight"),
            *layers("shared_modulation", "time_embed.linear"),
            tied("final.modulation.weight", "scale_shift_table", form=flat(2, model.width)),
            *layers("final.linear", "proj_out", form=channels_first(*patch)),
        ]
        for i in range(model.depth):
            block, theirs = f"blocks.{i}", f"transformer_blocks.{i}"
            ties += [
                tied(f"{block}.modulation.linear.weight", f"{theirs}.scale_shift_table", form=flat(6, model.width)),
                *attention(f"{block}.self_attentions.0", f"{theirs}.attn1", normed=normed, bias=bias),
                *attention(f"{block}.cross_attention", f"{theirs}.attn2", normed=normed),
                tied(f"{block}.mlp.expand.weight", f"{theirs}.ff.conv_inverted.weight", form=PRODUCT),
                tied(f"{block}.mlp.expand.bias", f"{theirs}.ff.conv_inverted.bias"),
                tied(f"{block}.mlp.taps", f"{theirs}.ff.conv_depth.weight", form=DEPTHWISE),
                tied(f"{block}.mlp.taps_bias", f"{theirs}.ff.conv_depth.bias"),
                tied(f"{block}.mlp.out.weight", f"{theirs}.ff.conv_point.weight", form=PRODUCT),
            ]
        return ties

    def objective(self, shape: Shape, scheduler: Mapping[str, Any]) -> AnyObjective:
        """A velocity; the pipeline's shift to noise is the scheduler's."""
        return FlowConfig(shift=float(scheduler.get("flow_shift") or scheduler.get("shift") or 1.0))


def _has_bias(model: DiTConfig) -> bool:
    return not isinstance(model.mixer, LinearConfig) or model.mixer.bias
