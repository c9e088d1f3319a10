"""DiT's weights under three names: the published code's (facebookresearch/DiT), diffusers', and ours.

The published layout is the middle one: diffusers' is renamed to it and back, and it alone is turned into ours. Other
differences than names: we hold query apart from key and value, output features as (C, pt, ph, pw) where theirs are
(ph, pw, C), and patches may have several frames.
"""

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from train.convert.ties import Tie, attention, layers
from train.model.dit_config import DiTConfig

State: TypeAlias = dict[str, Tensor]
Tubelet: TypeAlias = Literal["central", "uniform"]

# Published name: diffusers' name. Linear layers: each stands for a weight and a bias.
OUTER = {
    "x_embedder.proj": "pos_embed.proj",
    "final_layer.adaLN_modulation.1": "proj_out_1",
    "final_layer.linear": "proj_out_2",
}
PER_BLOCK = {
    "attn.proj": "attn1.to_out.0",
    "mlp.fc1": "ff.net.0.proj",
    "mlp.fc2": "ff.net.2",
    "adaLN_modulation.1": "norm1.linear",
}
EMBEDDERS = {
    "t_embedder.mlp.0.weight": "timestep_embedder.linear_1.weight",
    "t_embedder.mlp.0.bias": "timestep_embedder.linear_1.bias",
    "t_embedder.mlp.2.weight": "timestep_embedder.linear_2.weight",
    "t_embedder.mlp.2.bias": "timestep_embedder.linear_2.bias",
    "y_embedder.embedding_table.weight": "class_embedder.embedding_table.weight",
}

# Published name: ours, of the linear layers that are the same.
OURS_OUTER = {"final_layer.adaLN_modulation.1": "final.modulation"}
OURS_PER_BLOCK = {"attn.proj": "self_attentions.0.out", "mlp.fc1": "mlp.0", "mlp.fc2": "mlp.2"}
OURS_EMBEDDERS = {
    "t_embedder.mlp.0.weight": "timestep.mlp.0.weight",
    "t_embedder.mlp.0.bias": "timestep.mlp.0.bias",
    "t_embedder.mlp.2.weight": "timestep.mlp.2.weight",
    "t_embedder.mlp.2.bias": "timestep.mlp.2.bias",
    "y_embedder.embedding_table.weight": "label.table.weight",
}
PARTS = ("weight", "bias")


def num_blocks(state: State, prefix: str) -> int:
    return len({name.split(".")[1] for name in state if name.startswith(prefix + ".")})


def published_from_diffusers(state: State) -> tuple[State, list[State]]:
    """The published layout without embedders, and the embedders of each block."""
    published: State = {}
    embedders: list[State] = []
    for theirs, name in OUTER.items():
        published |= {f"{theirs}.{part}": state[f"{name}.{part}"] for part in PARTS}
    for i in range(num_blocks(state, "transformer_blocks")):
        ours, block = f"blocks.{i}", f"transformer_blocks.{i}"
        for theirs, name in PER_BLOCK.items():
            published |= {f"{ours}.{theirs}.{part}": state[f"{block}.{name}.{part}"] for part in PARTS}
        for part in PARTS:
            qkv = [state[f"{block}.attn1.to_{letter}.{part}"] for letter in "qkv"]
            published[f"{ours}.attn.qkv.{part}"] = torch.cat(qkv)
        embedders.append({theirs: state[f"{block}.norm1.emb.{name}"] for theirs, name in EMBEDDERS.items()})
    return published, embedders


def diffusers_from_published(published: State, embedders: list[State]) -> State:
    """The inverse; one set of embedders is repeated for every block."""
    state: State = {}
    for theirs, name in OUTER.items():
        state |= {f"{name}.{part}": published[f"{theirs}.{part}"] for part in PARTS}
    for i in range(num_blocks(published, "blocks")):
        ours, block = f"blocks.{i}", f"transformer_blocks.{i}"
        for theirs, name in PER_BLOCK.items():
            state |= {f"{block}.{name}.{part}": published[f"{ours}.{theirs}.{part}"] for part in PARTS}
        for part in PARTS:
            for letter, matrix in zip("qkv", published[f"{ours}.attn.qkv.{part}"].chunk(3), strict=True):
                state[f"{block}.attn1.to_{letter}.{part}"] = matrix
        for theirs, name in EMBEDDERS.items():
            state[f"{block}.norm1.emb.{name}"] = embedders[i % len(embedders)][theirs]
    return state


def ours_from_published(published: State, embedders: list[State], config: DiTConfig) -> State:
    """Our names, for an image model."""
    _, ph, pw = config.patch
    embedding = published["x_embedder.proj.weight"].flatten(1)
    state = {"embed.weight": embedding, "embed.bias": published["x_embedder.proj.bias"]}
    for part in PARTS:
        out = published[f"final_layer.linear.{part}"].unflatten(0, (ph, pw, -1)).movedim(2, 0)  # (C, ph, pw, …)
        state[f"final.linear.{part}"] = out.flatten(0, 2)
        for theirs, ours in OURS_OUTER.items():
            state[f"{ours}.{part}"] = published[f"{theirs}.{part}"]
        for i in range(config.depth):
            block = f"blocks.{i}"
            for theirs, ours in OURS_PER_BLOCK.items():
                state[f"{block}.{ours}.{part}"] = published[f"{block}.{theirs}.{part}"]
            q, kv = published[f"{block}.attn.qkv.{part}"].split([config.width, 2 * config.width])
            state |= {f"{block}.self_attentions.0.to_q.{part}": q, f"{block}.self_attentions.0.to_kv.{part}": kv}
            state[f"{block}.modulation.linear.{part}"] = published[f"{block}.adaLN_modulation.1.{part}"]
    for i, embedder in enumerate(embedders):
        state |= {f"conditioners.{i}.{ours}": embedder[theirs] for theirs, ours in OURS_EMBEDDERS.items()}
    return state


def with_silent_sublayer(modulation: Tensor) -> Tensor:
    """What modulates attention and MLP, (2 n, …), with a second attention between them starting at zero: (3 n, …)."""
    attention, mlp = modulation.chunk(2)
    return torch.cat([attention, torch.zeros_like(attention), mlp])


def published_from_ours(ours: State, config: DiTConfig) -> tuple[State, list[State]]:
    """The inverse for an image model: the published layout without embedders, and the embedders of each block."""
    _, ph, pw = config.patch
    published = {
        "x_embedder.proj.weight": ours["embed.weight"].unflatten(1, (-1, ph, pw)),
        "x_embedder.proj.bias": ours["embed.bias"],
    }
    for part in PARTS:
        out = ours[f"final.linear.{part}"].unflatten(0, (-1, ph, pw)).movedim(0, 2)  # (ph, pw, C, …)
        published[f"final_layer.linear.{part}"] = out.flatten(0, 2)
        published |= {f"{theirs}.{part}": ours[f"{name}.{part}"] for theirs, name in OURS_OUTER.items()}
        for i in range(config.depth):
            block = f"blocks.{i}"
            for theirs, name in (OURS_PER_BLOCK | {"adaLN_modulation.1": "modulation.linear"}).items():
                published[f"{block}.{theirs}.{part}"] = ours[f"{block}.{name}.{part}"]
            qkv = [ours[f"{block}.self_attentions.0.{name}.{part}"] for name in ("to_q", "to_kv")]
            published[f"{block}.attn.qkv.{part}"] = torch.cat(qkv)
    embedders = [
        {theirs: ours[f"conditioners.{i}.{name}"] for theirs, name in OURS_EMBEDDERS.items()}
        for i in range(num_blocks(ours, "conditioners"))
    ]
    return published, embedders


def layer_ties(config: DiTConfig) -> list[Tie]:
    """The layers of the blocks in `DiTTransformer2DModel`: those that a file of low-rank updates is about."""
    return [
        tie
        for i in range(config.depth)
        for ours, theirs in ((f"blocks.{i}", f"transformer_blocks.{i}"),)
        for tie in (
            *attention(f"{ours}.self_attentions.0", f"{theirs}.attn1"),
            *layers(f"{ours}.mlp.0", f"{theirs}.ff.net.0.proj"),
            *layers(f"{ours}.mlp.2", f"{theirs}.ff.net.2"),
            *layers(f"{ours}.modulation.linear", f"{theirs}.norm1.linear"),
        )
    ]


def inflate_embedding(weight: Tensor, num_frames: int, tubelet: Tubelet) -> Tensor:
    """ViViT §3.4: the (D, C, ph, pw) weight of an image's patches to (D, C, pt, ph, pw) of tubelets."""
    if tubelet == "uniform":
        return weight[:, :, None].expand(-1, -1, num_frames, -1, -1) / num_frames
    inflated = weight.new_zeros(*weight.shape[:2], num_frames, *weight.shape[2:])
    inflated[:, :, num_frames // 2] = weight
    return inflated
