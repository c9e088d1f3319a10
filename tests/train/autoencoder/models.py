"""Tiny autoencoders of every kind that is supported, random weights, as folders that a user would name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.support.members.pixel_blocks import PixelBlocksConfig
from train.autoencoder import weights_folder
from train.autoencoder.bottlenecks.config import BottleneckConfig
from train.autoencoder.config import AutoencoderConfig, DiffusersAutoencoderConfig, ReelpackConfig
from train.autoencoder.network import CausalVideoAutoencoder
from train.autoencoder.network_config import NetworkConfig
from train.autoencoder.temporal_decoder.config import TemporalDecoderConfig
from train.autoencoder.temporal_decoder.folder import save
from train.autoencoder.temporal_decoder.network import TemporalDecoder
from train.autoencoder.temporal_decoder.training_config import TrainTemporalDecoderConfig


def stable_diffusion() -> nn.Module:
    """The autoencoder of SD and FLUX."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=4,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        sample_size=32,
    )


def deep_compression() -> nn.Module:
    from diffusers import AutoencoderDC

    return AutoencoderDC(
        latent_channels=4,
        attention_head_dim=4,
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), ()),
        decoder_qkv_multiscales=((), ()),
    )


def wan() -> nn.Module:
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[0.5, 1.0, 2.0, 3.0],
    )


def cogvideox() -> nn.Module:
    from diffusers import AutoencoderKLCogVideoX

    return AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(4, 4, 4, 4),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
        scaling_factor=0.7,
    )


def hunyuan() -> nn.Module:
    from diffusers import AutoencoderKLHunyuanVideo

    return AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_num_groups=2
    )


def ltx() -> nn.Module:
    from diffusers import AutoencoderKLLTXVideo

    return AutoencoderKLLTXVideo(
        latent_channels=4,
        block_out_channels=(4, 4, 4, 4),
        decoder_block_out_channels=(4, 4, 4, 4),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
    )


def wan_22() -> nn.Module:
    """Patches of two pixels, and shortcuts around the levels."""
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan(
        base_dim=4,
        decoder_base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[0.5, 1.0, 2.0, 3.0],
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
    )


def hunyuan_15() -> nn.Module:
    from diffusers import AutoencoderKLHunyuanVideo15

    return AutoencoderKLHunyuanVideo15(latent_channels=4, block_out_channels=(8,) * 5, layers_per_block=1)


def ltx_2() -> nn.Module:
    from diffusers import AutoencoderKLLTX2Video

    return AutoencoderKLLTX2Video(
        latent_channels=4,
        block_out_channels=(8, 16, 32, 64),
        decoder_block_out_channels=(8, 16, 32),
        layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 4,
    )


def mochi() -> nn.Module:
    from diffusers import AutoencoderKLMochi

    return AutoencoderKLMochi(
        encoder_block_out_channels=(32,) * 4,
        decoder_block_out_channels=(32,) * 4,
        latent_channels=4,
        layers_per_block=(1,) * 5,
        latents_mean=(0.1,) * 4,
        latents_std=(0.5,) * 4,
        add_attention_block=(False,) * 5,
    )


def cosmos() -> nn.Module:
    from diffusers import AutoencoderKLCosmos

    return AutoencoderKLCosmos(
        latent_channels=4,
        encoder_block_out_channels=(8,) * 4,
        decode_block_out_channels=(8,) * 4,
        num_layers=1,
        attention_resolutions=(),
        latents_mean=None,
        latents_std=None,
    )


def magvit() -> nn.Module:
    from diffusers import AutoencoderKLMagvit

    return AutoencoderKLMagvit(
        latent_channels=4, block_out_channels=[8, 8, 8, 8], layers_per_block=1, norm_num_groups=2
    )


def stable_video() -> nn.Module:
    """Frames are encoded alone, and decoded together."""
    from diffusers import AutoencoderKLTemporalDecoder

    return AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, layers_per_block=1
    )


def tiny() -> nn.Module:
    from diffusers import AutoencoderTiny

    return AutoencoderTiny(
        encoder_block_out_channels=(4,) * 4,
        decoder_block_out_channels=(4,) * 4,
        num_encoder_blocks=(1,) * 4,
        num_decoder_blocks=(1,) * 4,
    )


def asymmetric() -> nn.Module:
    from diffusers import AsymmetricAutoencoderKL

    return AsymmetricAutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        down_block_out_channels=(4, 8),
        up_block_out_channels=(4, 8),
        norm_num_groups=2,
    )


def flux_2() -> nn.Module:
    """Its pipeline normalizes patches of 2 x 2 latents by running statistics."""
    from diffusers import AutoencoderKLFlux2

    model = AutoencoderKLFlux2(
        block_out_channels=(4, 8, 8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=2
    )
    model.bn.running_mean.uniform_(-1, 1)
    model.bn.running_var.uniform_(0.5, 2)
    return model


def hunyuan_image() -> nn.Module:
    from diffusers import AutoencoderKLHunyuanImage

    return AutoencoderKLHunyuanImage(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(32,) * 6,
        layers_per_block=1,
        spatial_compression_ratio=32,
        sample_size=64,
        scaling_factor=0.75,
    )


def hunyuan_refiner() -> nn.Module:
    from diffusers import AutoencoderKLHunyuanImageRefiner

    return AutoencoderKLHunyuanImageRefiner(latent_channels=4, block_out_channels=(8,) * 5, layers_per_block=1)


def kvae() -> nn.Module:
    from diffusers import AutoencoderKLKVAE

    return AutoencoderKLKVAE(channels=32, num_enc_blocks=1, num_dec_blocks=1, z_channels=4, ch_mult=(1, 1, 1, 1))


def kvae_video() -> nn.Module:
    from diffusers import AutoencoderKLKVAEVideo

    return AutoencoderKLKVAEVideo(ch=32, ch_mult=(1, 1, 1, 1), num_res_blocks=1, z_channels=4)


def qwen_image() -> nn.Module:
    from diffusers import AutoencoderKLQwenImage

    return AutoencoderKLQwenImage(
        base_dim=4, z_dim=4, dim_mult=[1] * 4, num_res_blocks=1, latents_mean=[0.1] * 4, latents_std=[0.5] * 4
    )


def kandinsky_sr() -> nn.Module:
    from diffusers import Kandinsky6SRVAE

    widths = (8,) * 5
    return Kandinsky6SRVAE(
        latent_channels=4, encoder_block_out_channels=widths, decoder_block_out_channels=widths, layers_per_block=1
    )


def vq() -> nn.Module:
    """Latents before the codebook, as its pipelines have them; the decoder looks the codes up."""
    from diffusers import VQModel

    return VQModel(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 8),
        norm_num_groups=2,
        num_vq_embeddings=16,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """What is known of an autoencoder without running it; `build` is None for the embedded one."""

    build: Callable[[], nn.Module] | None
    channels: int = 4
    temporal_stride: int
    spatial_stride: int
    is_causal: bool


KINDS = {
    "embedded": Kind(build=None, channels=16, temporal_stride=4, spatial_stride=8, is_causal=True),
    "stable_diffusion": Kind(build=stable_diffusion, temporal_stride=1, spatial_stride=2, is_causal=True),
    "deep_compression": Kind(build=deep_compression, temporal_stride=1, spatial_stride=2, is_causal=True),
    "wan": Kind(build=wan, temporal_stride=4, spatial_stride=8, is_causal=True),
    "cogvideox": Kind(build=cogvideox, temporal_stride=4, spatial_stride=8, is_causal=False),
    "hunyuan": Kind(build=hunyuan, temporal_stride=4, spatial_stride=8, is_causal=False),
    "ltx": Kind(build=ltx, temporal_stride=8, spatial_stride=32, is_causal=True),
    "wan_22": Kind(build=wan_22, temporal_stride=4, spatial_stride=16, is_causal=True),
    "hunyuan_15": Kind(build=hunyuan_15, temporal_stride=4, spatial_stride=16, is_causal=True),
    "ltx_2": Kind(build=ltx_2, temporal_stride=8, spatial_stride=32, is_causal=True),
    "mochi": Kind(build=mochi, temporal_stride=6, spatial_stride=8, is_causal=True),
    "cosmos": Kind(build=cosmos, temporal_stride=8, spatial_stride=8, is_causal=True),
    "magvit": Kind(build=magvit, temporal_stride=4, spatial_stride=8, is_causal=True),
    "stable_video": Kind(build=stable_video, temporal_stride=1, spatial_stride=2, is_causal=True),
    "tiny": Kind(build=tiny, temporal_stride=1, spatial_stride=8, is_causal=True),
    "temporal_decoder": Kind(build=None, temporal_stride=1, spatial_stride=2, is_causal=True),
    "asymmetric": Kind(build=asymmetric, temporal_stride=1, spatial_stride=2, is_causal=True),
    "flux_2": Kind(build=flux_2, channels=16, temporal_stride=1, spatial_stride=16, is_causal=True),
    "hunyuan_image": Kind(build=hunyuan_image, temporal_stride=1, spatial_stride=32, is_causal=True),
    "hunyuan_refiner": Kind(build=hunyuan_refiner, temporal_stride=1, spatial_stride=16, is_causal=False),
    "kvae": Kind(build=kvae, temporal_stride=1, spatial_stride=8, is_causal=True),
    "kvae_video": Kind(build=kvae_video, temporal_stride=4, spatial_stride=8, is_causal=False),
    "qwen_image": Kind(build=qwen_image, temporal_stride=4, spatial_stride=8, is_causal=True),
    "kandinsky_sr": Kind(build=kandinsky_sr, temporal_stride=4, spatial_stride=16, is_causal=True),
    "vq": Kind(build=vq, channels=3, temporal_stride=1, spatial_stride=2, is_causal=True),
    "pixel_blocks": Kind(build=None, channels=3, temporal_stride=1, spatial_stride=8, is_causal=True),
}

SHIPPED = ("embedded", "stable_diffusion", "deep_compression", "wan", "cogvideox", "hunyuan", "ltx")
"""Those that `encode` is tried with: one of each manner."""


def save_temporal_decoder(base: DiffusersAutoencoderConfig | ReelpackConfig, folder: Path) -> TemporalDecoderConfig:
    """As after training: no layer is the identity."""
    decoder = TemporalDecoder(base.build(), "temporal")
    with torch.no_grad():
        for number, parameter in enumerate(decoder.layers.parameters()):
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
    save(decoder, TrainTemporalDecoderConfig(base=base), folder)
    return TemporalDecoderConfig(path=str(folder), device="cpu")


def save_own(bottleneck: BottleneckConfig, folder: Path) -> ReelpackConfig:
    """A tiny network of one's own in `folder`, 8 px and 4 frames to a position; none of its weights is zero."""
    channels = bottleneck.num_channels(4)
    network = NetworkConfig(
        latent_channels=4,
        bottleneck=bottleneck,
        widths=(8, 12, 16),
        decoder_blocks=(1, 1, 1),
        latent_mean=tuple(0.1 * i - 0.2 for i in range(channels)),
        latent_std=tuple(0.5 + 0.3 * i for i in range(channels)),
    )
    torch.manual_seed(0)
    model = CausalVideoAutoencoder(network)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    weights_folder.save(model, folder)
    return ReelpackConfig(path=str(folder), device="cpu")


def save_model(name: str, folder: Path, **options: Any) -> AutoencoderConfig:
    """Random weights of a kind in `folder`, and the configuration that names them; `options` of `save_pretrained`."""
    build = KINDS[name].build
    if name == "temporal_decoder":
        base = save_model("stable_diffusion", folder / "its base")
        assert isinstance(base, DiffusersAutoencoderConfig)
        return save_temporal_decoder(base, folder)
    if build is None:
        return PixelBlocksConfig() if name == "pixel_blocks" else ReelpackConfig(device="cpu")
    from curate.encoders.torchvision_cpu import repair

    repair()
    torch.manual_seed(0)
    build().eval().save_pretrained(folder, **options)
    return DiffusersAutoencoderConfig(path=str(folder), device="cpu")
