"""A decoder of images that became one of videos, after Video LDM (Blattmann et al. 2023, section 3.1.1)."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from train.autoencoder.base import VideoAutoencoder
from train.autoencoder.causal_net import Stream
from train.autoencoder.temporal_decoder.decoders import BaseDecoder, decoder_of
from train.autoencoder.temporal_decoder.layer import TemporalLayer
from train.autoencoder.temporal_decoder.training_config import Trains

PROBE_PX = 64
PROBE_FRAMES = 2
PROBE_TOLERANCE = 1e-2
"""Of values in [-1, 1], in the precision of any base."""


class TemporalDecoder(nn.Module):
    """A base's latents to videos: its decoder, with a temporal layer behind each residual block.

    Its parameters are those of the layers and, where the decoder is trained, the decoder's; the rest of the base
    stands outside. The base itself encodes, and still decodes without the layers, which its blocks run as hooks.

    Attributes:
        layers: In the order of the blocks.
        reach_frames: How many earlier frames the layers let a frame depend on, at the rate of the blocks.
    """

    def __init__(self, base: VideoAutoencoder, trains: Trains) -> None:
        """The layers begin as the identity.

        Raises:
            ValueError: they cannot be put into the base's decoder.
        """
        super().__init__()
        self.base, self.trains = base, trains
        self._decoder = decoder_of(base)
        self._now: tuple[int, Stream] | None = None  # videos of the batch, and what is known of earlier frames
        channels = _channels(base, self._decoder)
        self.layers = nn.ModuleList(TemporalLayer(width) for width in channels.values())
        for block, layer in zip(channels, self.layers, strict=True):
            block.register_forward_hook(self._behind(layer))
        if trains == "decoder":
            self.base_decoder = self._decoder.modules.requires_grad_(True)
        self.to(base.device)

    @property
    def reach_frames(self) -> int:
        return TemporalLayer.NUM_BEFORE * len(self.layers)

    def decode(self, latent: Tensor, *, chunk: int | None = None) -> Tensor:
        """(B, C, T', H', W') float32, normalized, to (B, 3, T, H, W) float32, not clamped. `chunk`: latent frames at a
        time."""
        return torch.cat(list(self.decode_parts(latent, chunk)), dim=2)

    def decode_parts(self, latent: Tensor, chunk: int | None) -> Iterator[Tensor]:
        """The same in parts along time; layers remember the frames before a part."""
        stream = Stream(is_whole=chunk is None)
        for part in latent.split(chunk or latent.shape[2], dim=2):
            self._now = len(latent), stream
            try:
                video = self._decoder.decode(part, stream)
            finally:
                self._now = None
            stream.started = True
            yield video

    def _behind(self, layer: nn.Module) -> Callable[[nn.Module, Any, Tensor], Tensor]:
        def run(block: nn.Module, arguments: Any, output: Tensor) -> Tensor:
            if self._now is None:
                return output
            num_videos, stream = self._now
            if output.ndim == 5:
                return layer(output, stream)
            videos = output.unflatten(0, (num_videos, -1)).transpose(1, 2)  # (B, C, T, H, W)
            return layer(videos, stream).transpose(1, 2).flatten(0, 1)

        return run


@torch.no_grad()
def _channels(base: VideoAutoencoder, decoder: BaseDecoder) -> dict[nn.Module, int]:
    """The blocks that run when a video is decoded, in their order, and the channels of their outputs.

    Raises:
        ValueError: the base decodes otherwise than by these modules.
    """
    channels: dict[nn.Module, int] = {}
    hooks = [
        block.register_forward_hook(lambda block, _, output: channels.setdefault(block, output.shape[1]) and None)
        for block in decoder.blocks
    ]
    side = PROBE_PX // base.spatial_stride
    latent = torch.linspace(-1, 1, base.channels * PROBE_FRAMES * side * side, device=base.device)
    latent = latent.view(base.channels, PROBE_FRAMES, side, side)
    video = decoder.decode(latent[None], Stream()).clamp(-1, 1).cpu()
    for hook in hooks:
        hook.remove()
    expected = base.decode(latent)
    if video.shape != expected.shape or (video - expected).abs().max() > PROBE_TOLERANCE:
        raise ValueError(
            f"train_autoencoder.temporal_decoder.base: {base.name} gets no temporal layers: it decodes otherwise than "
            "by its decoder alone; expected an autoencoder of images (AutoencoderKL, AutoencoderTiny, AutoencoderDC)"
        )
    return channels
