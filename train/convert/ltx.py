"""LTX-Video (HaCohen et al. 2024, "LTX-Video: Realtime Video Latent Diffusion", §3.2 and its code).

A DiT with one adaLN for all blocks plus a vector for each, on patches of one position of a latent that is 32 times
smaller. Rotary positions are seconds and pixels within a span, and rotate all heads at once. Each token has a
timestep: given frames are at 0, as here.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from train.convert.family import Family, Shape
from train.convert.ties import Tie, attention, flat, halves_of_pairs, layers, tied
from train.model.caption_config import CaptionConfig
from train.model.dit_config import DiTConfig
from train.objective.config import AnyObjective
from train.objective.flow_config import FlowConfig

SPAN = (20.0, 64.0, 64.0)
"""Seconds, and positions of a latent: the code has 2048 px, 32 px to a position."""


class LTX(Family):
    """`LTXVideoTransformer3DModel`."""

    class_name: ClassVar[str] = "LTXVideoTransformer3DModel"
    text: ClassVar[Mapping[str, Any]] = {"max_tokens": 128, "padding": "attended"}
    required: ClassVar[Mapping[str, Any]] = {
        "patch_size": 1,
        "patch_size_t": 1,
        "activation_fn": "gelu-approximate",
        "qk_norm": "rms_norm_across_heads",
        "norm_elementwise_affine": False,
        "norm_eps": 1e-6,
        "attention_bias": True,
        "attention_out_bias": True,
    }
    published: ClassVar[Mapping[str, str]] = {
        "transformer.proj_in.": "transformer.patchify_proj.",
        "transformer.time_embed.": "transformer.adaln_single.",
        ".norm_q.": ".q_norm.",
        ".norm_k.": ".k_norm.",
    }

    def shape(self, config: Mapping[str, Any]) -> Shape:
        channels, outputs = config["in_channels"], config["out_channels"]
        num_heads = config["num_attention_heads"]
        width = num_heads * config["attention_head_dim"]
        if channels != outputs or config["cross_attention_dim"] != width:
            raise ValueError(
                f"config.json: got in_channels {channels}, out_channels {outputs}, cross_attention_dim "
                f"{config['cross_attention_dim']}; expected as many outputs as inputs, and cross-attention to the "
                f"model's own width, {width}"
            )
        model = DiTConfig(
            width=width,
            depth=config["num_layers"],
            num_heads=num_heads,
            patch=(1, 1, 1),
            norm="rms",
            qk_norm="width",
            qk_norm_eps=1e-5,
            rope_span=SPAN,
            reference_fps=1.0,
            adaln="shared",
            final_adaln="table",
            cross_attention_norm="none",
            caption=CaptionConfig(norm=False, pooled=False, absent="zeros"),
            condition_on_fps=False,
        )
        return Shape(config=model, channels=channels, text_dim=config["caption_channels"])

    def entries(self, shape: Shape) -> dict[str, Any]:
        model = shape.config
        return {
            "in_channels": shape.channels,
            "out_channels": shape.channels,
            "num_attention_heads": model.num_heads,
            "attention_head_dim": model.width // model.num_heads,
            "cross_attention_dim": model.width,
            "num_layers": model.depth,
            "caption_channels": shape.text_dim,
        }

    def ties(self, shape: Shape) -> list[Tie]:
        model, timestep = shape.config, "time_embed.emb.timestep_embedder"
        ties = [
            *layers("embed", "proj_in"),
            *layers("conditioners.0.timestep.mlp.0", f"{timestep}.linear_1"),
            *layers("conditioners.0.timestep.mlp.2", f"{timestep}.linear_2"),
            *layers("conditioners.0.caption.mlp.0", "caption_projection.linear_1"),
            *layers("conditioners.0.caption.mlp.2", "caption_projection.linear_2"),
            *layers("shared_modulation", "time_embed.linear"),
            tied("final.modulation.weight", "scale_shift_table", form=flat(2, model.width)),
            *layers("final.linear", "proj_out"),
        ]
        pairs = halves_of_pairs(model.num_heads)
        for i in range(model.depth):
            block, theirs = f"blocks.{i}", f"transformer_blocks.{i}"
            ties += [
                tied(f"{block}.modulation.linear.weight", f"{theirs}.scale_shift_table", form=flat(6, model.width)),
                *attention(f"{block}.self_attentions.0", f"{theirs}.attn1", rotated=pairs, normed=True),
                *attention(f"{block}.cross_attention", f"{theirs}.attn2", normed=True),
                *layers(f"{block}.mlp.0", f"{theirs}.ff.net.0.proj"),
                *layers(f"{block}.mlp.2", f"{theirs}.ff.net.2"),
            ]
        return ties

    def objective(self, shape: Shape, scheduler: Mapping[str, Any]) -> AnyObjective:
        """A velocity. The pipeline's own shift to noise grows with the number of tokens."""
        return FlowConfig(shift=float(scheduler.get("shift") or 1.0))
