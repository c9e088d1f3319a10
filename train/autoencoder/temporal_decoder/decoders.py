"""The decoders that temporal layers are put into: of one's own network, and of diffusers' autoencoders of images."""

from typing import Protocol

from torch import Tensor, nn

from train.autoencoder.base import VideoAutoencoder
from train.autoencoder.causal_net import Block, Stream
from train.autoencoder.diffusers_vae import DiffusersAutoencoder
from train.autoencoder.own import ReelpackAutoencoder

RESIDUAL_BLOCKS = ("ResnetBlock2D", "AutoencoderTinyBlock", "ResBlock", "EfficientViTBlock")
"""Classes of diffusers: their outputs are (B · T, C, H, W)."""


class BaseDecoder(Protocol):
    """The decoder of a base."""

    modules: nn.ModuleDict
    """All that has weights."""
    blocks: list[nn.Module]
    """Residual blocks in the order of their calls; their outputs are (B, C, T, H, W), or (B · T, C, H, W)."""

    def decode(self, latent: Tensor, stream: Stream) -> Tensor:
        """(B, C, T', H', W') float32, normalized, to (B, 3, T, H, W) float32, not clamped: the next frames of a
        stream."""
        ...


class OwnDecoder:
    """Of `train/autoencoder/network.py`, with any strides."""

    def __init__(self, base: ReelpackAutoencoder) -> None:
        self._base, self._decoder = base, base.model.decoder
        self.modules = nn.ModuleDict({"decoder": self._decoder})
        self.blocks: list[nn.Module] = [layer for layer in self._decoder.layers if isinstance(layer, Block)]

    def decode(self, latent: Tensor, stream: Stream) -> Tensor:
        video: Tensor = self._decoder(self._base.raw(latent), stream)
        return video


class FrameDecoder:
    """Of a class of diffusers that decodes each frame alone: AutoencoderKL, the asymmetric one, Tiny, DC."""

    def __init__(self, base: DiffusersAutoencoder) -> None:
        self._base, self._decoder = base, base.model.decoder
        # Without tiles and slices, which would mix up the frames of a stream.
        self._before = getattr(base.model, "post_quant_conv", None) or nn.Identity()
        self.modules = nn.ModuleDict({"post_quant_conv": self._before, "decoder": self._decoder})
        self.blocks: list[nn.Module] = [
            one for one in self._decoder.modules() if type(one).__name__ in RESIDUAL_BLOCKS
        ]

    def decode(self, latent: Tensor, stream: Stream) -> Tensor:
        frames = self._base.raw(latent).transpose(1, 2)  # (B, T, C, H', W')
        out = self._decoder(self._before(frames.flatten(0, 1).to(self._base.dtype)))  # (B · T, 3, H, W)
        return out.float().unflatten(0, frames.shape[:2]).transpose(1, 2)


def decoder_of(base: VideoAutoencoder) -> BaseDecoder:
    """The base's own modules, changed by no one.

    Raises:
        ValueError: layers cannot be put into it.
    """
    if isinstance(base, ReelpackAutoencoder):
        return OwnDecoder(base)
    if isinstance(base, DiffusersAutoencoder) and not base.decodes_videos:
        decoder = FrameDecoder(base)
        if decoder.blocks:
            return decoder
        reason = f"its decoder has none of the blocks {', '.join(RESIDUAL_BLOCKS)}"
    else:
        reason = "it decodes the frames of a video together already"
    raise ValueError(
        f"train_autoencoder.temporal_decoder.base: {base.name} gets no temporal layers: {reason}; expected an "
        "autoencoder of images (AutoencoderKL, AutoencoderTiny, AutoencoderDC) or one of train-autoencoder"
    )
