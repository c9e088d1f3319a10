"""Wan 2.1 and 2.2 (Wan Team 2025, "Wan: Open and Advanced Large-Scale Video Generative Models", §4.2).

A DiT with one adaLN for all blocks plus a vector for each, cross-attention to UMT5 between attention and MLP, and
queries and keys that are normalised over all heads at once. Captions are filled with states of zeros to 512 tokens,
which cross-attention sees. The 5B model of 2.2 has a timestep for each token: given frames are at 0, as here. Models
of image-to-video are shown further channels, a mask and the latent of given frames that are followed by gray; those of
2.1 also read CLIP's states of the picture.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from train.convert.family import Family, Shape, mlp_ratio
from train.convert.ties import Form, Tie, attention, channels_first, flat, flat_patches, halves_of_pairs, layers, tied
from train.model.caption_config import CaptionConfig
from train.model.dit_config import DiTConfig
from train.model.picture_config import PictureConfig
from train.objective.config import AnyObjective
from train.objective.flow_config import FlowConfig

TEXT_TOKENS = 512
PICTURE = ("image_dim", "added_kv_proj_dim", "pos_embed_seq_len")


class Wan(Family):
    """`WanTransformer3DModel`."""

    class_name: ClassVar[str] = "WanTransformer3DModel"
    text: ClassVar[Mapping[str, Any]] = {"max_tokens": TEXT_TOKENS}
    required: ClassVar[Mapping[str, Any]] = {
        "freq_dim": 256,
        "eps": 1e-6,
        "qk_norm": "rms_norm_across_heads",
        "cross_attn_norm": True,
        "rope_max_seq_len": 1024,
    }

    published: ClassVar[Mapping[str, str]] = {
        ".attn1.": ".self_attn.",
        ".attn2.": ".cross_attn.",
        ".to_q.": ".q.",
        ".to_k.": ".k.",
        ".to_v.": ".v.",
        ".to_out.0.": ".o.",
        ".add_k_proj.": ".k_img.",
        ".add_v_proj.": ".v_img.",
        ".ffn.net.0.proj.": ".ffn.0.",
        ".ffn.net.2.": ".ffn.2.",
        "condition_embedder.time_embedder.linear_1.": "time_embedding.0.",
        "condition_embedder.time_embedder.linear_2.": "time_embedding.2.",
        "condition_embedder.text_embedder.linear_1.": "text_embedding.0.",
        "condition_embedder.text_embedder.linear_2.": "text_embedding.2.",
        "condition_embedder.time_proj.": "time_projection.1.",
        "transformer.proj_out.": "transformer.head.head.",
    }

    def shape(self, config: Mapping[str, Any]) -> Shape:
        channels = config["out_channels"]
        shown = config["in_channels"] - channels
        num_heads = config["num_attention_heads"]
        width = num_heads * config["attention_head_dim"]
        image_dim, added, positions = (config.get(name) for name in PICTURE)
        if shown < 0 or added != (None if image_dim is None else width) or (positions and image_dim is None):
            told = ", ".join(f"{name} {config.get(name)}" for name in ("in_channels", "out_channels", *PICTURE))
            raise ValueError(
                f"config.json: got {told}; expected as many inputs as outputs or "
                f"more, and with image_dim an added_kv_proj_dim of the model's own width, {width}"
            )
        model = DiTConfig(
            width=width,
            depth=config["num_layers"],
            num_heads=num_heads,
            mlp_ratio=mlp_ratio(config["ffn_dim"], width),
            patch=tuple(config["patch_size"]),
            qk_norm="width",
            adaln="shared",
            final_adaln="table",
            cross_attention_norm="affine",
            caption=CaptionConfig(norm=False, pooled=False, absent="zeros"),
            text_padding=TEXT_TOKENS,
            shown_channels=shown,
            picture=None if image_dim is None else PictureConfig(dim=image_dim, positions=positions),
            condition_on_fps=False,
        )
        return Shape(config=model, channels=channels, text_dim=config["text_dim"])

    def entries(self, shape: Shape) -> dict[str, Any]:
        model = shape.config
        return {
            "patch_size": list(model.patch),
            "num_attention_heads": model.num_heads,
            "attention_head_dim": model.width // model.num_heads,
            "in_channels": shape.channels + model.shown_channels,
            "out_channels": shape.channels,
            "text_dim": shape.text_dim,
            "image_dim": None if model.picture is None else model.picture.dim,
            "added_kv_proj_dim": None if model.picture is None else model.width,
            "pos_embed_seq_len": None if model.picture is None else model.picture.positions,
            "ffn_dim": int(model.width * model.mlp_ratio),
            "num_layers": model.depth,
        }

    def ties(self, shape: Shape) -> list[Tie]:
        model = shape.config
        timestep, text = "condition_embedder.time_embedder", "condition_embedder.text_embedder"
        channels = shape.channels + model.shown_channels
        ties = [
            tied("embed.weight", "patch_embedding.weight", form=flat_patches(channels, *model.patch)),
            tied("embed.bias", "patch_embedding.bias"),
            *layers("conditioners.0.timestep.mlp.0", f"{timestep}.linear_1"),
            *layers("conditioners.0.timestep.mlp.2", f"{timestep}.linear_2"),
            *layers("conditioners.0.caption.mlp.0", f"{text}.linear_1"),
            *layers("conditioners.0.caption.mlp.2", f"{text}.linear_2"),
            *layers("shared_modulation", "condition_embedder.time_proj"),
            tied("final.modulation.weight", "scale_shift_table", form=flat(1, 2, model.width)),
            *layers("final.linear", "proj_out", form=channels_first(*model.patch)),
            *_picture_ties(model),
        ]
        pairs = halves_of_pairs(model.num_heads)
        for i in range(model.depth):
            block = f"blocks.{i}"
            ties += [
                tied(f"{block}.modulation.linear.weight", f"{block}.scale_shift_table", form=flat(1, 6, model.width)),
                *attention(f"{block}.self_attentions.0", f"{block}.attn1", rotated=pairs, normed=True),
                *layers(f"{block}.cross_norm", f"{block}.norm2"),
                *attention(f"{block}.cross_attention", f"{block}.attn2", normed=True),
                *([] if model.picture is None else _added_keys(f"{block}.cross_attention.picture", f"{block}.attn2")),
                *layers(f"{block}.mlp.0", f"{block}.ffn.net.0.proj"),
                *layers(f"{block}.mlp.2", f"{block}.ffn.net.2"),
            ]
        return ties

    def objective(self, shape: Shape, scheduler: Mapping[str, Any]) -> AnyObjective:
        """A velocity; the pipeline's shift to noise is the scheduler's."""
        return FlowConfig(shift=float(scheduler.get("flow_shift") or scheduler.get("shift") or 1.0))


def _picture_ties(model: DiTConfig) -> list[Tie]:
    if model.picture is None:
        return []
    ours, theirs = "picture", "condition_embedder.image_embedder"
    table = Form(ours=lambda x: x[0], theirs=lambda x: x[None], of_rows=False)
    positions = [tied(f"{ours}.positions", f"{theirs}.pos_embed", form=table)] if model.picture.positions else []
    return [
        *positions,
        *layers(f"{ours}.norm", f"{theirs}.norm1"),
        *layers(f"{ours}.mlp.0", f"{theirs}.ff.net.0.proj"),
        *layers(f"{ours}.mlp.2", f"{theirs}.ff.net.2"),
        *layers(f"{ours}.out_norm", f"{theirs}.norm2"),
    ]


def _added_keys(ours: str, theirs: str) -> list[Tie]:
    return [
        *layers(f"{ours}.to_kv", f"{theirs}.add_k_proj", f"{theirs}.add_v_proj"),
        tied(f"{ours}.norm_k.weight", f"{theirs}.norm_added_k.weight"),
    ]
