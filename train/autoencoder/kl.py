"""A small causal video KL autoencoder: 8 x 8 pixels and four frames become one latent position.

After Latent Diffusion (Rombach et al. 2022), section 3.1: an autoencoder with a slightly KL-regularized posterior, on
whose latents a diffusion model is trained. Causal in time as in W.A.L.T (Gupta et al. 2023), section 3.1, and
MAGVIT-v2 (Yu et al. 2023), section 3.2: the first frame is encoded alone, an image is a video of one frame, and
`1 + 4k` frames become `1 + k` latent frames. Departures, all for speed on a CPU: space-to-depth in place of strided
convolutions, (2+1)-D residual blocks with ReLU and without normalization (nothing to leak across time), no attention,
no discriminator. The network is fully convolutional, so sizes and lengths are free.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from curate.storage.publish import publish, write_text
from curate.storage.tensors import tensors_to_bytes
from train.run.load_state import load_state

SPATIAL_STRIDE = 8
TEMPORAL_STRIDE = 4
PATCH = 4
"""Pixels per side that the first space-to-depth takes; the second takes two of these."""

WEIGHTS_FILE = "reelpack_kl.safetensors"
CONFIG_FILE = "config.json"


class KLConfig(BaseModel):
    """Architecture and latent statistics of one set of weights; lies beside them as `config.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    latent_channels: int = Field(16, ge=1, description="channels of a latent position")
    widths: tuple[int, int, int] = Field(
        (48, 128, 192), description="channels at (1 frame, 4 px), (2 frames, 8 px) and (4 frames, 8 px)"
    )
    encoder_blocks: tuple[int, int, int] = Field((1, 1, 1), description="residual blocks per level, finest first")
    decoder_blocks: tuple[int, int, int] = Field((2, 2, 2), description="residual blocks per level, finest first")
    latent_mean: tuple[float, ...] | None = Field(
        None, description="mean of the raw latents per channel over the training data; null before it was measured"
    )
    latent_std: tuple[float, ...] | None = Field(
        None, description="standard deviation of the raw latents per channel; null before it was measured"
    )


@dataclass(slots=True)
class Stream:
    """What the causal layers remember between the chunks of one clip."""

    started: bool = False
    tails: dict[nn.Module, Tensor] = field(default_factory=dict)


def space_time_to_depth(x: Tensor, *, frames: int, pixels: int) -> Tensor:
    """(B, C, T, H, W) -> (B, frames * pixels^2 * C, T / frames, H / pixels, W / pixels), channels last in memory."""
    b, c, t, h, w = x.shape
    x = x.reshape(b, c, t // frames, frames, h // pixels, pixels, w // pixels, pixels)
    x = x.permute(0, 2, 4, 6, 3, 5, 7, 1)  # (B, T', H', W', frames, pixels, pixels, C)
    return x.flatten(4).permute(0, 4, 1, 2, 3)


def depth_to_space_time(x: Tensor, *, frames: int, pixels: int) -> Tensor:
    """Inverse of `space_time_to_depth`."""
    b, _, t, h, w = x.shape
    x = x.permute(0, 2, 3, 4, 1).reshape(b, t, h, w, frames, pixels, pixels, -1)
    x = x.permute(0, 1, 4, 2, 5, 3, 6, 7)  # (B, T, frames, H, pixels, W, pixels, C)
    return x.reshape(b, t * frames, h * pixels, w * pixels, -1).permute(0, 4, 1, 2, 3)


def _frame_conv(in_channels: int, out_channels: int, kernel: int) -> nn.Conv3d:
    conv = nn.Conv3d(in_channels, out_channels, (1, kernel, kernel), padding=(0, kernel // 2, kernel // 2))
    nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
    nn.init.zeros_(conv.bias)
    return conv


class CausalTemporalConv(nn.Module):
    """Convolution over a frame and the two before it; before the first frame stand copies of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, channels, (3, 1, 1))
        nn.init.zeros_(self.conv.weight)  # the residual block begins as the identity
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        before = stream.tails.get(self)
        if before is None:
            before = x[:, :, :1].expand(-1, -1, 2, -1, -1)
        x = torch.cat([before, x], dim=2)
        stream.tails[self] = x[:, :, -2:]
        return self.conv(x)


class Block(nn.Module):
    """(2+1)-D residual block: 3 x 3 within the frame, then 3 causal in time."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial = _frame_conv(channels, channels, 3)
        self.temporal = CausalTemporalConv(channels)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        return x + self.temporal(F.relu(self.spatial(F.relu(x))), stream)


class Down(nn.Module):
    """Halves time (and space by `pixels`). A copy of the first frame goes before it, so that it forms a pair alone."""

    def __init__(self, in_channels: int, out_channels: int, pixels: int) -> None:
        super().__init__()
        self.pixels = pixels
        self.proj = _frame_conv(2 * pixels**2 * in_channels, out_channels, 1)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        if not stream.started:
            x = torch.cat([x[:, :, :1], x], dim=2)
        return self.proj(space_time_to_depth(x, frames=2, pixels=self.pixels))


class Up(nn.Module):
    """Inverse of `Down`: doubles time and drops the copy before the first frame."""

    def __init__(self, in_channels: int, out_channels: int, pixels: int) -> None:
        super().__init__()
        self.pixels = pixels
        self.proj = _frame_conv(in_channels, 2 * pixels**2 * out_channels, 1)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        x = depth_to_space_time(self.proj(x), frames=2, pixels=self.pixels)
        return x if stream.started else x[:, :, 1:]


class Encoder(nn.Module):
    def __init__(self, config: KLConfig) -> None:
        super().__init__()
        fine, middle, coarse = config.widths
        num_fine, num_middle, num_coarse = config.encoder_blocks
        self.stem = _frame_conv(3 * PATCH**2, fine, 3)
        self.layers = nn.ModuleList(
            [
                *(Block(fine) for _ in range(num_fine)),
                Down(fine, middle, pixels=2),
                *(Block(middle) for _ in range(num_middle)),
                Down(middle, coarse, pixels=1),
                *(Block(coarse) for _ in range(num_coarse)),
            ]
        )
        self.head = _frame_conv(coarse, 2 * config.latent_channels, 1)

    def forward(self, x: Tensor, stream: Stream) -> tuple[Tensor, Tensor]:
        x = space_time_to_depth(x, frames=1, pixels=PATCH)  # (B, 48, 1+4k, H/4, W/4)
        x = self.stem(x)  # (B, 48, 1+4k, H/4, W/4)
        for layer in self.layers:
            x = layer(x, stream)  # ... (B, 128, 1+2k, H/8, W/8) ... (B, 192, 1+k, H/8, W/8)
        mean, logvar = self.head(x).float().chunk(2, dim=1)  # 2 x (B, C, 1+k, H/8, W/8)
        return mean, logvar.clamp(-20.0, 4.0)


class Decoder(nn.Module):
    def __init__(self, config: KLConfig) -> None:
        super().__init__()
        fine, middle, coarse = config.widths
        num_fine, num_middle, num_coarse = config.decoder_blocks
        self.stem = _frame_conv(config.latent_channels, coarse, 3)
        self.layers = nn.ModuleList(
            [
                *(Block(coarse) for _ in range(num_coarse)),
                Up(coarse, middle, pixels=1),
                *(Block(middle) for _ in range(num_middle)),
                Up(middle, fine, pixels=2),
                *(Block(fine) for _ in range(num_fine)),
            ]
        )
        self.head = _frame_conv(fine, 3 * PATCH**2, 3)

    def forward(self, z: Tensor, stream: Stream) -> Tensor:
        x = self.stem(z)  # (B, 192, 1+k, H/8, W/8)
        for layer in self.layers:
            x = layer(x, stream)  # ... (B, 128, 1+2k, H/8, W/8) ... (B, 48, 1+4k, H/4, W/4)
        x = self.head(x).float()  # (B, 48, 1+4k, H/4, W/4)
        return depth_to_space_time(x, frames=1, pixels=PATCH)  # (B, 3, 1+4k, H, W)


class CausalVideoKL(nn.Module):
    """The network. Videos are (B, 3, 1+4k, H, W) in [-1, 1], H and W multiples of 8; latents are not normalized."""

    def __init__(self, config: KLConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.to(memory_format=torch.channels_last_3d)  # twice as fast on a CPU

    def encode(self, video: Tensor, *, chunk: int | None = None) -> tuple[Tensor, Tensor]:
        """Posterior mean and log variance, each (B, C, 1+k, H/8, W/8). `chunk`: latent frames at a time (memory)."""
        _check_video(video)
        parts = self.encode_parts(_chunks(video, first=1, step=TEMPORAL_STRIDE, chunk=chunk))
        means, logvars = zip(*parts, strict=True)
        return torch.cat(means, dim=2), torch.cat(logvars, dim=2)

    def encode_parts(self, parts: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Mean and log variance of consecutive parts of a video: 1+4k frames, then multiples of 4."""
        stream = Stream()
        for part in parts:
            yield self.encoder(part, stream)
            stream.started = True

    def decode(self, latent: Tensor, *, chunk: int | None = None) -> Tensor:
        """(B, C, 1+k, H/8, W/8) -> (B, 3, 1+4k, H, W), not clamped."""
        stream, videos = Stream(), []
        for part in _chunks(latent, first=1, step=1, chunk=chunk):
            videos.append(self.decoder(part, stream))
            stream.started = True
        return torch.cat(videos, dim=2)


def _check_video(video: Tensor) -> None:
    b3thw = video.ndim == 5 and video.shape[1] == 3
    if not b3thw or video.shape[2] % TEMPORAL_STRIDE != 1 or video.shape[3] % 8 or video.shape[4] % 8:
        raise ValueError(
            f"got a video of shape {tuple(video.shape)}; expected (B, 3, T, H, W) with T = 1 + {TEMPORAL_STRIDE}k and "
            f"H and W multiples of {SPATIAL_STRIDE}: trim the frames and resize first"
        )


def _chunks(x: Tensor, *, first: int, step: int, chunk: int | None) -> Iterator[Tensor]:
    """Splits dimension 2 into `first + (chunk - 1) * step` frames, then `chunk * step` at a time; None: all."""
    if chunk is None:
        yield x
        return
    end = first + (chunk - 1) * step
    yield x[:, :, :end]
    for start in range(end, x.shape[2], chunk * step):
        yield x[:, :, start : start + chunk * step]


def save(model: CausalVideoKL, folder: str | Path) -> None:
    """Writes float16 weights and `config.json` into `folder`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.to(torch.float16) for k, v in model.state_dict().items()}
    with publish(str(folder / WEIGHTS_FILE)) as file:
        file.write(tensors_to_bytes(state))
    write_text(str(folder / CONFIG_FILE), json.dumps(model.config.model_dump(mode="json"), indent=2) + "\n")


def load(folder: str | Path) -> tuple[CausalVideoKL, str]:
    """The network in float32, evaluation mode, and the hash of its weights and configuration.

    Raises:
        ValueError: The folder lacks the weights or their configuration, or one is not of the other.
    """
    folder = Path(folder)
    for name in (WEIGHTS_FILE, CONFIG_FILE):
        if not (folder / name).is_file():
            raise ValueError(
                f"no {name} in {folder}: expected the folder that `reelpack train-autoencoder` wrote; "
                "leave `path` null for the embedded weights"
            )
    try:
        config = KLConfig.model_validate_json((folder / CONFIG_FILE).read_text())
        model = CausalVideoKL(config)
        load_state(model, {k: v.float() for k, v in load_file(str(folder / WEIGHTS_FILE)).items()})
    except (ValueError, SafetensorError) as error:
        raise ValueError(
            f"{folder}: {WEIGHTS_FILE} and {CONFIG_FILE} do not belong together or are damaged ({error}); train "
            "again, or leave `path` null for the embedded weights"
        ) from error
    digest = hashlib.sha256((folder / WEIGHTS_FILE).read_bytes() + (folder / CONFIG_FILE).read_bytes())
    return model.eval().requires_grad_(False), digest.hexdigest()[:32]
