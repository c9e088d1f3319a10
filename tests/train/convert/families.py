"""Small random models of diffusers' own classes, and their outputs for samples that ours take in one pack."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from curate.encoders.torchvision_cpu import repair
from train.convert.diffusers_folder import Imported, family_of, read_folder
from train.convert.family import Family
from train.model.dit import DiT
from train.packing.batch import Sample, pack, unpack
from train.packing.shapes import SHOWN

repair()

IMAGE_DIM = 12
CHANNELS, TEXT_DIM, LATENT_PX, WAN_TOKENS, CLASSES = 4, 20, 8, 512, 1000  # DiTPipeline has ImageNet's classes


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model: its class and settings in diffusers, samples, and how a pipeline asks it for one of them."""

    class_name: str
    settings: Mapping[str, Any]
    samples: Sequence[Sample]
    ask: Callable[[nn.Module, Sample, torch.dtype], Tensor]

    @property
    def their_class(self) -> Any:
        import diffusers

        return getattr(diffusers, self.class_name)

    def build(self) -> nn.Module:
        """Every parameter is random: as they are drawn, tables and norms would hide mistakes."""
        model: nn.Module = self.their_class(**self.settings)
        generator = torch.Generator().manual_seed(0)
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.data = noise / parameter[0].numel() ** 0.5
            else:
                parameter.data = 1 + 0.2 * noise if name.endswith("weight") else 0.2 * noise
        return model.eval()


def text(num_tokens: int) -> Tensor:
    return torch.randn(num_tokens, TEXT_DIM, generator=torch.Generator().manual_seed(num_tokens))


def sample(timestep: float, shape: tuple[int, ...], text: Tensor | None, **given: Any) -> Sample:
    latent = torch.randn(CHANNELS, *shape, generator=torch.Generator().manual_seed(int(1000 * timestep)))
    noise = torch.zeros_like(latent)
    return Sample(clip_id=str(timestep), latent=latent, noise=noise, timestep=timestep, fps=16.0, text=text, **given)


def shown_sample(timestep: float, shape: tuple[int, ...], text: Tensor | None, states: int | None) -> Sample:
    """With a mask and a latent of given frames, and states of a picture."""
    generator = torch.Generator().manual_seed(1)
    shown = torch.randn(4 + CHANNELS, *shape, generator=generator)
    picture = None if states is None else torch.randn(states, IMAGE_DIM, generator=generator)
    return sample(timestep, shape, text, conditioning={SHOWN: shown}, picture=picture)


def states(one: Sample, dtype: torch.dtype) -> Tensor:
    """(1, n, D_text): a text's own tokens, or one state of zeros."""
    return (torch.zeros(1, TEXT_DIM) if one.text is None else one.text)[None].to(dtype)


def ask_wan(model: nn.Module, one: Sample, dtype: torch.dtype) -> Tensor:
    """The caption is filled with zeros; of TI2V-5B, which has a timestep for each token, given ones are at 0."""
    given, shown = states(one, dtype), one.conditioning.get(SHOWN)
    latent = one.latent if shown is None else torch.cat([one.latent, shown])
    picture = None if one.picture is None else one.picture.to(dtype)[None]
    if picture is not None and model.config.pos_embed_seq_len is not None:
        picture = picture.unflatten(1, (2, -1))[0]
    padded = torch.cat([given, given.new_zeros(1, WAN_TOKENS - given.shape[1], TEXT_DIM)], dim=1)
    timestep = torch.tensor([1000 * one.timestep])
    if one.clean_mask is not None:
        timestep = torch.where(one.clean_mask, 0.0, timestep)[None]
    return model(latent[None].to(dtype), timestep, padded, picture).sample[0]


def ask_pixart(model: nn.Module, one: Sample, dtype: torch.dtype) -> Tensor:
    rows, columns = (LATENT_PX * side for side in one.latent.shape[-2:])
    size = {"resolution": torch.tensor([[rows, columns]]), "aspect_ratio": torch.tensor([[rows / columns]])}
    timestep = torch.tensor([round(1000 * one.timestep)])
    out = model(one.latent[None, :, 0].to(dtype), states(one, dtype), timestep, added_cond_kwargs=size)
    return out.sample[0, :, None]


def ask_latte(model: nn.Module, one: Sample, dtype: torch.dtype) -> Tensor:
    timestep = torch.tensor([round(1000 * one.timestep)])
    return model(one.latent[None].to(dtype), timestep, states(one, dtype)).sample[0]


def ask_ltx(model: nn.Module, one: Sample, dtype: torch.dtype) -> Tensor:
    """As `LTXPipeline`, and with given tokens at 0 as `LTXImageToVideoPipeline`."""
    _, frames, rows, columns = one.latent.shape
    timestep = torch.tensor([[1000 * one.timestep]])
    if one.clean_mask is not None:
        timestep = torch.where(one.clean_mask, 0.0, timestep)
    tokens = one.latent.flatten(1).T[None].to(dtype)
    scale = (one.temporal_stride / one.fps, 32, 32)
    out = model(tokens, states(one, dtype), timestep, None, frames, rows, columns, rope_interpolation_scale=scale)
    return out.sample[0].T.unflatten(1, (frames, rows, columns))


def ask_sana(model: nn.Module, one: Sample, dtype: torch.dtype) -> Tensor:
    timestep = torch.tensor([round(1000 * one.timestep)])
    return model(one.latent[None, :, 0].to(dtype), states(one, dtype), timestep).sample[0, :, None]


def ask_dit(model: nn.Module, one: Sample, dtype: torch.dtype) -> Tensor:
    label = CLASSES if one.label is None else one.label
    timestep = torch.tensor([round(1000 * one.timestep)])
    return model(one.latent[None, :, 0].to(dtype), timestep, torch.tensor([label])).sample[0, :, None]


WAN = {
    "num_attention_heads": 3,
    "attention_head_dim": 14,  # 3 pairs of features for frames, 2 for rows, 2 for columns
    "in_channels": CHANNELS,
    "out_channels": CHANNELS,
    "text_dim": TEXT_DIM,
    "ffn_dim": 100,
    "num_layers": 2,
}
WAN_I2V = WAN | {"in_channels": 2 * CHANNELS + 4}
PIXART = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": CHANNELS,
    "out_channels": 2 * CHANNELS,
    "num_layers": 2,
    "cross_attention_dim": 24,
    "caption_channels": TEXT_DIM,
    "sample_size": 8,
    "patch_size": 2,
}
LTX = {
    "num_attention_heads": 2,
    "attention_head_dim": 14,  # 12 of 14 pairs of features are rotated, 4 for each axis
    "in_channels": CHANNELS,
    "out_channels": CHANNELS,
    "cross_attention_dim": 28,
    "caption_channels": TEXT_DIM,
    "num_layers": 2,
}
SANA = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "num_cross_attention_heads": 3,
    "cross_attention_head_dim": 8,
    "cross_attention_dim": 24,
    "in_channels": CHANNELS,
    "out_channels": CHANNELS,
    "caption_channels": TEXT_DIM,
    "num_layers": 2,
    "sample_size": 8,
}
BLOCK = {
    "norm_type": "ada_norm_single",
    "norm_eps": 1e-6,
    "norm_elementwise_affine": False,
    "attention_bias": True,
    "activation_fn": "gelu-approximate",
    "num_embeds_ada_norm": 1000,
}
VIDEOS = [sample(0.25, (3, 6, 10), text(5)), sample(0.5, (3, 4, 4), None)]
IMAGES = [sample(0.017, (1, 8, 8), text(5)), sample(0.5, (1, 4, 12), text(9)), sample(0.999, (1, 6, 4), None)]

CASES = {
    "wan-2.1-i2v": Case(
        class_name="WanTransformer3DModel",
        settings=WAN_I2V | {"image_dim": IMAGE_DIM, "added_kv_proj_dim": 42},
        samples=[shown_sample(0.25, (3, 6, 10), text(5), 5), shown_sample(0.5, (2, 4, 4), None, 3)],
        ask=ask_wan,
    ),
    "wan-2.1-flf2v": Case(
        class_name="WanTransformer3DModel",
        settings=WAN_I2V | {"image_dim": IMAGE_DIM, "added_kv_proj_dim": 42, "pos_embed_seq_len": 10},
        samples=[shown_sample(0.25, (3, 6, 10), text(5), 10), shown_sample(0.5, (2, 4, 4), text(3), 10)],
        ask=ask_wan,
    ),
    "wan-2.2-i2v": Case(
        class_name="WanTransformer3DModel",
        settings=WAN_I2V,
        samples=[shown_sample(0.25, (3, 6, 10), text(5), None), shown_sample(0.5, (2, 4, 4), None, None)],
        ask=ask_wan,
    ),
    "wan": Case(
        class_name="WanTransformer3DModel",
        settings=WAN,
        samples=[*VIDEOS, IMAGES[0], sample(0.75, (3, 4, 4), text(9), clean_mask=torch.arange(12) < 4)],
        ask=ask_wan,
    ),
    "pixart-sigma": Case(class_name="PixArtTransformer2DModel", settings=PIXART, samples=IMAGES, ask=ask_pixart),
    "pixart-alpha": Case(
        class_name="PixArtTransformer2DModel",
        settings=PIXART | {"use_additional_conditions": True, "interpolation_scale": 2, "sample_size": 128},
        samples=IMAGES,
        ask=ask_pixart,
    ),
    "latte": Case(
        class_name="LatteTransformer3DModel",
        settings=PIXART | BLOCK | {"video_length": 16},
        samples=[sample(0.25, (16, 4, 6), text(5)), sample(0.5, (16, 4, 2), None), *IMAGES[:2]],
        ask=ask_latte,
    ),
    "ltx": Case(
        class_name="LTXVideoTransformer3DModel",
        settings=LTX,
        samples=[
            sample(0.25, (3, 6, 10), text(5), temporal_stride=8),
            *VIDEOS[1:],
            sample(0.75, (3, 4, 4), text(9), clean_mask=torch.arange(48) < 16),
        ],
        ask=ask_ltx,
    ),
    "sana-1.0": Case(class_name="SanaTransformer2DModel", settings=SANA, samples=IMAGES, ask=ask_sana),
    "sana-1.5": Case(
        class_name="SanaTransformer2DModel",
        settings=SANA | {"patch_size": 2, "interpolation_scale": 2, "qk_norm": "rms_norm_across_heads"},
        samples=IMAGES,
        ask=ask_sana,
    ),
}
DIT = Case(
    class_name="DiTTransformer2DModel",
    settings={
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": CHANNELS,
        "out_channels": 2 * CHANNELS,
        "num_layers": 2,
        "sample_size": 8,
        "num_embeds_ada_norm": CLASSES,
    },
    samples=[sample(0.25, (1, 8, 8), None, label=2), sample(0.5, (1, 8, 8), None)],
    ask=ask_dit,
)
"""By labels, of squares of one size: of no family."""


def read(folder: Path) -> tuple[Imported, Family]:
    """The model of a folder of diffusers in ours, and its family."""
    config = json.loads((folder / "config.json").read_text())
    family = family_of(config)
    assert family is not None
    return read_folder(folder, family, config), family


def packed_outputs(model: DiT, samples: Sequence[Sample]) -> list[Tensor]:
    """(num_outputs · C, T, H, W) of each sample of one pack."""
    batch = pack(samples, model.config.patch, model.text_dim, model.config.conditions)
    parts = model(batch.tokens, batch.timesteps, batch).chunk(model.num_outputs, dim=-1)
    return [torch.cat(of_one) for of_one in zip(*(unpack(x, batch, model.config.patch) for x in parts), strict=True)]
