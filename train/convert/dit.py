"""Published DiT checkpoints as reelpack models, and back: the same outputs on images, ready for videos.

An image model becomes a video model that treats one frame exactly as before: positions along time add nothing to frame
0, temporal attention and every condition that DiT does not have begin at zero, and a patch of several frames embeds an
image as the image model does (ViViT, Arnab et al. 2021, §3.4: filters inflated to all frames, or to the central).
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from train.convert.inflate import IMAGE_SAFE_PATTERNS
from train.convert.layouts import (
    EMBEDDERS,
    State,
    Tubelet,
    diffusers_from_published,
    num_blocks,
    ours_from_published,
    published_from_diffusers,
    published_from_ours,
)
from train.model.dit import DiT
from train.model.dit_config import DiTConfig
from train.model.mixers.attention_config import AttentionConfig
from train.model.mixers.config import MixerUnion
from train.model.position import sincos_embedding
from train.packing.patches import grid_positions
from train.run.load_state import load_state

DIFFUSERS_CLASS = "DiTTransformer2DModel"
HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16}
"""Heads by width of DiT-S, B, L and XL; the weights do not tell."""

SAMPLE_SIZE = 32
"""Side of a latent of the paper's models of 256 px."""
FIXED = {"position": "sincos", "conditioning": "adaln_zero", "adaln": "block", "qk_norm": False}
MIXER: TypeAdapter[MixerUnion] = TypeAdapter(MixerUnion)


def from_dit_state_dict(
    state: Mapping[str, Any],
    *,
    num_heads: int | None = None,
    frames_per_patch: int = 1,
    tubelet: Tubelet = "central",
    text_dim: int = 1,
    **settings: Any,
) -> DiT:
    """A model from the weights of facebookresearch/DiT, whole or as its training saves them ("ema" is taken).

    Args:
        state: the checkpoint.
        num_heads: needed for widths other than the paper's.
        frames_per_patch: of the video model; above 1 the embedding is inflated.
        tubelet: how it is inflated.
        text_dim: features of caption states, where `settings` adds captions.
        **settings: fields of `DiTConfig` that differ from the image model: mixer, temporal, text, conditions, …

    Raises:
        ValueError: no such checkpoint, or a setting under which an image would not be treated as before.
    """
    published = dict(state.get("ema", state.get("model", state)))
    if not isinstance(published.get("x_embedder.proj.weight"), Tensor):
        raise ValueError(f"got weights named {sorted(published)[:3]} …; expected those of facebookresearch/DiT")
    width = published["x_embedder.proj.weight"].shape[0]
    if num_heads is None and width not in HEADS:
        raise ValueError(f"got width {width}; expected one of DiT's ({', '.join(map(str, HEADS))}), or --num-heads")
    _check_positions(published.pop("pos_embed", None), width)
    embedders = [{name: published[name] for name in EMBEDDERS}]
    shape = {"num_heads": num_heads or HEADS.get(width)}
    return _build(published, embedders, shape, frames_per_patch, tubelet, text_dim, settings)


def from_diffusers(
    state: State,
    config: Mapping[str, Any],
    *,
    frames_per_patch: int = 1,
    tubelet: Tubelet = "central",
    text_dim: int = 1,
    **settings: Any,
) -> DiT:
    """A model from the weights and the config.json of diffusers' `DiTTransformer2DModel`; see `from_dit_state_dict`.

    diffusers has a timestep and label embedder in every block. If they are equal, as in the converted checkpoints of
    the paper, one is kept; else every block keeps its own.
    """
    published, embedders = published_from_diffusers(state)
    if all(torch.equal(e[name], embedders[0][name]) for e in embedders for name in EMBEDDERS):
        embedders = embedders[:1]
    shape = {
        "num_heads": config["num_attention_heads"],
        "mlp_norm_eps": config.get("norm_eps", 1e-5),
        "timestep_frequencies": "diffusers",
    }
    return _build(published, embedders, shape, frames_per_patch, tubelet, text_dim, settings)


def check_diffusers(model: DiT) -> None:
    """See that `DiTTransformer2DModel` has the outputs of a model.

    Raises:
        ValueError: the model has parts that DiT has not.
    """
    config = model.config
    asked = FIXED | {"mixer": AttentionConfig(), "text": "none", "condition_on_fps": False, "conditions": ()}
    asked |= {"conditioning_latents": {}, "self_conditioning": 0.0, "final_adaln": "linear"}
    asked |= {"sincos_extent": None, "condition_on_size": None, "temporal": "none"}
    asked |= {"norm": "layer", "mlp": "gelu"}
    wrong = {name: getattr(config, name) for name, value in asked.items() if getattr(config, name) != value}
    pt, ph, pw = config.patch
    if wrong or config.num_classes is None or pt != 1 or ph != pw:
        raise ValueError(
            f"got {wrong or f'patch {config.patch}, num_classes {config.num_classes}'}; DiTTransformer2DModel is an "
            f"image model of labels with square patches and {asked}"
        )


def to_diffusers(model: DiT, origin: Mapping[str, Any] | None = None) -> tuple[State, dict[str, Any]]:
    """Weights and config.json for `DiTTransformer2DModel`.

    Args:
        model: of labels and images.
        origin: config.json of the model that it began as: its `sample_size` is the side of a latent.

    Outputs agree if the model has `timestep_frequencies: diffusers`; for a model of the published code they differ as
    much as those of diffusers' own conversion do, whose sinusoids end one step later.

    Raises:
        ValueError: the model has parts that DiT has not.
    """
    config = model.config
    check_diffusers(model)
    published, embedders = published_from_ours(model.state_dict(), config)
    state = {name: tensor.detach().clone() for name, tensor in diffusers_from_published(published, embedders).items()}
    known = {"sample_size": SAMPLE_SIZE} | dict(origin or {})
    return state, known | {
        "_class_name": DIFFUSERS_CLASS,
        "num_attention_heads": config.num_heads,
        "attention_head_dim": config.width // config.num_heads,
        "in_channels": model.channels,
        "out_channels": model.channels * model.num_outputs,
        "num_layers": config.depth,
        "patch_size": config.patch[1],
        "num_embeds_ada_norm": config.num_classes,
        "norm_eps": config.mlp_norm_eps,
    }


def read_checkpoint(path: str | Path, **options: Any) -> DiT:
    """A model from a file of facebookresearch/DiT (.pt or .safetensors) or a folder of diffusers' (its transformer).

    Raises:
        ValueError: neither is there, or parts of it are missing.
    """
    try:
        return _read(Path(path), options)
    except KeyError as error:
        raise ValueError(f"{path}: the checkpoint has no {error}; expected a whole DiT") from error
    except RuntimeError as error:
        raise ValueError(f"{path}: its tensors have other shapes than those of a DiT ({error})") from error


def _read(path: Path, options: dict[str, Any]) -> DiT:
    if path.is_dir():
        if "num_heads" in options:
            raise ValueError(f"{path}: --num-heads is for a file of weights; a folder's config.json names its heads")
        folder = path / "transformer" if (path / "transformer").is_dir() else path
        weights = sorted(folder.glob("diffusion_pytorch_model*.safetensors"))
        if not weights or not (folder / "config.json").exists():
            raise ValueError(f"{folder}: expected config.json and diffusion_pytorch_model.safetensors of a DiT")
        state = {name: tensor for file in weights for name, tensor in _tensors(file).items()}
        try:
            config = json.loads((folder / "config.json").read_text())
        except ValueError as error:
            raise ValueError(f"{folder}/config.json: is no JSON ({error}); fetch it again") from error
        return from_diffusers(state, config, **options)
    if not path.exists():
        raise ValueError(
            f"{path}: no such file; expected a folder or hub id of diffusers, or DiT-XL-2-256x256.pt or another "
            "checkpoint of DiT"
        )
    return from_dit_state_dict(_tensors(path), **options)


def _tensors(path: Path) -> dict[str, Any]:
    """What is in a file of weights; nothing in it is run.

    Raises:
        ValueError: it is damaged, or holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, KeyError, UnpicklingError) as error:
        # What torch says is several paragraphs, and advises to run what is in the file.
        what = "damaged, no file of weights, or holds more than tensors: objects are not loaded, as that can run code"
        raise ValueError(
            f"{path}: {what} ({type(error).__name__}); fetch it again, or save its tensors alone"
        ) from error
    if not isinstance(state, dict):
        raise ValueError(f"{path}: got a {type(state).__name__}; expected tensors by name, of DiT")
    return state


def _build(
    published: State,
    embedders: list[State],
    shape: dict[str, Any],
    frames_per_patch: int,
    tubelet: Tubelet,
    text_dim: int,
    settings: dict[str, Any],
) -> DiT:
    width, channels, patch, _ = published["x_embedder.proj.weight"].shape
    read = {
        "width": width,
        "depth": num_blocks(published, "blocks"),
        "mlp_ratio": published["blocks.0.mlp.fc1.weight"].shape[0] / width,
        "patch": (frames_per_patch, patch, patch),
        "num_classes": embedders[0]["y_embedder.embedding_table.weight"].shape[0] - 1,
        "embedders_per_block": len(embedders) > 1,
    }
    fixed = FIXED | shape | read
    if clash := {name: value for name, value in settings.items() if fixed.get(name, value) != value}:
        raise ValueError(f"got {clash}; the checkpoint has { ({name: fixed[name] for name in clash}) }")
    settings["mixer"] = mixer = MIXER.validate_python(settings.get("mixer", {"kind": "attention"}))
    if (pattern := getattr(mixer, "pattern", mixer.kind)) not in IMAGE_SAFE_PATTERNS:
        raise ValueError(
            f"under pattern {pattern} an image's patches would see less than in DiT; set it to one of "
            f"{', '.join(IMAGE_SAFE_PATTERNS)}"
        )
    defaults = {"text": "none", "condition_on_fps": False}
    config = DiTConfig.model_validate(defaults | settings | fixed)
    num_outputs = published["final_layer.linear.bias"].shape[0] // (channels * patch**2)
    model = DiT(config, channels=channels, text_dim=text_dim, num_outputs=num_outputs)
    model.silence_additions(config)
    of_images = config.model_copy(update={"patch": (1, patch, patch), "mixer": AttentionConfig(), "temporal": "none"})
    state = model.adapted(of_images, ours_from_published(published, embedders, of_images), tubelet)
    load_state(model, model.state_dict() | state)
    return model


def _check_positions(table: Tensor | None, width: int) -> None:
    """The published table is a constant; another one would be lost."""
    if table is None:
        return
    side = math.isqrt(table.shape[1])
    ours = sincos_embedding(grid_positions((1, side, side)), width)
    if side * side != table.shape[1] or not torch.allclose(table[0].float(), ours, atol=1e-4):
        raise ValueError("pos_embed: got other positions than DiT's fixed table of a square grid")
