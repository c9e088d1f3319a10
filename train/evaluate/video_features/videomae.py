"""VideoMAE (Tong et al. 2022): a transformer that was trained to fill in masked parts of videos."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from curate.encoders import torchvision_cpu
from curate.schema import content_digest
from curate.storage.tensors import tensors_to_bytes
from train.evaluate.video_features.base import DistanceName
from train.evaluate.video_features.config import VideoMAEConfig


class VideoMAE:
    """Raises:
    ValueError: transformers is not installed, or there are no weights of a VideoMAE.
    """

    distance: DistanceName = "fvd"
    is_spread = False

    def __init__(self, config: VideoMAEConfig, device: torch.device) -> None:
        torchvision_cpu.repair()
        try:
            from transformers import VideoMAEImageProcessor, VideoMAEModel
        except ModuleNotFoundError as error:
            raise ValueError(f"videomae: {error.name} is not installed; pip install 'reelpack[train]'") from None
        place = {"pretrained_model_name_or_path": config.path, "revision": config.revision or "main"}
        try:
            model, found = VideoMAEModel.from_pretrained(**place, output_loading_info=True)
            processor = VideoMAEImageProcessor.from_pretrained(**place)
        except (OSError, ValueError) as error:
            raise ValueError(f"videomae: {config.path} cannot be loaded: {error}") from error
        if found["missing_keys"]:
            raise ValueError(f"videomae: {config.path} lacks {sorted(found['missing_keys'])[0]}; is it a VideoMAE?")
        self._model, self._device = model.to(device).eval().requires_grad_(False), device
        shape = (1, 1, 3, 1, 1)
        self._mean = torch.tensor(processor.image_mean, device=device).view(shape)
        self._std = torch.tensor(processor.image_std, device=device).view(shape)
        stem = Path(config.path).name.replace("-", "_")
        self.name = stem if stem.startswith("videomae") else f"videomae_{stem}"
        self.num_frames: int = model.config.num_frames
        weights = hashlib.sha256(tensors_to_bytes(model.state_dict())).hexdigest()
        self.fingerprint = content_digest(str(processor.image_mean), str(processor.image_std), weights)

    @torch.no_grad()
    def __call__(self, videos: Tensor) -> Tensor:
        side = self._model.config.image_size
        x = videos.to(self._device).permute(0, 1, 4, 2, 3).float() / 255  # (N, T, 3, H, W)
        frames = F.interpolate(x.flatten(0, 1), size=(side, side), mode="bilinear", antialias=True)
        x = (frames.unflatten(0, x.shape[:2]) - self._mean) / self._std
        tokens: Tensor = self._model(pixel_values=x).last_hidden_state  # (N, tokens, D)
        return tokens.mean(1).float().cpu()
