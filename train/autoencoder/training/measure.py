"""Reconstructions of held-out clips: figures and a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curate.schema import MediaError
from curate.storage.publish import publish
from train.autoencoder.base import usable_frames
from train.autoencoder.bottlenecks.base import usage
from train.autoencoder.evaluate import psnr, ssim
from train.autoencoder.perceptual.judges import Judgement, Judges, judges_of
from train.autoencoder.pixels import to_rgb, to_video
from train.autoencoder.sizes import target_size
from train.autoencoder.training.base import TrainedAutoencoder
from train.autoencoder.training.clips import ClipSource
from train.autoencoder.training.config import HeldOutConfig, TrainAutoencoderConfig

CHUNK = 8
"""Latent frames at a time."""
NUM_COLUMNS = 4
"""Frames of each clip in the picture."""
ERROR_GAIN = 4
"""Errors are shown as many times as large."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """What was measured: numbers by name, and the picture (H, W, 3) uint8; None where no clip is to be shown."""

    metrics: dict[str, Any]
    picture: np.ndarray | None


def held_out_clips(
    source: ClipSource, config: HeldOutConfig, *, temporal_stride: int, multiple: int
) -> list[np.ndarray]:
    """(T, H, W, 3) uint8 each, at sizes and lengths that the network takes, without those that cannot be decoded."""
    import cv2

    clips = []
    for clip in source.held_out[: config.max_clips]:
        count = usable_frames(min(clip.num_frames, config.max_frames), temporal_stride)
        side = round(config.max_area_px**0.5)
        try:
            rgb = source.read(clip, 0, count, side)
        except MediaError:
            continue
        height, width = target_size(*rgb.shape[1:3], max_area_px=config.max_area_px, multiple_px=multiple)
        clips.append(np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in rgb]))
    return clips


def held_out_judges(config: TrainAutoencoderConfig, device: torch.device) -> Judges:
    """Those of the settings, with the network that the loss asks.

    Raises:
        ValueError: as members of their families say.
    """
    trained_by = [config.loss.perceptual.distance] if config.loss.perceptual else []
    return judges_of([*config.held_out.distances, *trained_by], config.held_out.rfvd, device)


@torch.no_grad()
def measure(model: TrainedAutoencoder, clips: Sequence[np.ndarray], judges: Judges, num_shown: int) -> HeldOut:
    """Figures of one rank's model over clips, at least one; dB, shares, and `flicker`: mean absolute error of the
    differences between consecutive frames, in units of 0 to 255; and what the judges see, by their names."""
    judgement = Judgement(judges)
    rows: list[dict[str, float]] = []
    codes: list[Tensor] = []
    shown: list[np.ndarray] = []
    for clip in clips:
        latent = model.latent(to_video(clip).to(judges.device), chunk=CHUNK)
        out = model.decode(latent, chunk=CHUNK)
        rgb = to_rgb(out)
        rows.append({"psnr_db": psnr(clip, rgb), "ssim": ssim(clip, rgb), **judgement.add(clip, rgb)})
        if len(clip) > 1:
            changes = np.diff(rgb.astype(np.int16), axis=0) - np.diff(clip.astype(np.int16), axis=0)
            rows[-1]["flicker"] = float(np.abs(changes).mean())
        if model.num_codes is not None:
            codes.append(model.ids(latent).flatten().cpu())
        if len(shown) < num_shown:
            shown.append(_strip(clip, rgb))
    names = dict.fromkeys(name for row in rows for name in row)
    metrics: dict[str, Any] = {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}
    metrics["worst_psnr_db"] = min(row["psnr_db"] for row in rows)
    if codes and model.num_codes is not None:
        counted = usage(torch.cat(codes), model.num_codes)
        metrics |= {name: float(value) for name, value in counted.items()}
    metrics |= judgement.frechet()
    return HeldOut(metrics=metrics, picture=_stacked(shown) if shown else None)


def _strip(clip: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """Three rows of frames: source, reconstruction, error."""
    chosen = np.linspace(0, len(clip) - 1, NUM_COLUMNS).round().astype(int)
    error = (ERROR_GAIN * np.abs(clip.astype(np.int16) - rgb)).clip(0, 255).astype(np.uint8)
    return np.concatenate([np.concatenate(list(rows[chosen]), axis=1) for rows in (clip, rgb, error)])


def _stacked(strips: Sequence[np.ndarray]) -> np.ndarray:
    width = max(strip.shape[1] for strip in strips)
    return np.concatenate([np.pad(strip, ((0, 4), (0, width - strip.shape[1]), (0, 0))) for strip in strips])


def write_picture(path: Path, picture: np.ndarray) -> None:
    """(H, W, 3) uint8 as PNG."""
    import cv2

    path.parent.mkdir(exist_ok=True)
    with publish(str(path)) as file:
        file.write(cv2.imencode(".png", picture[..., ::-1])[1].tobytes())
