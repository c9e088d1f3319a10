"""InceptionV3 (Szegedy et al. 2016) in TorchScript: the network of published FIDs. It sees the frame in the middle.

The file resizes pictures to 299 x 299 px and scales values itself. It gives 2048 features.
"""

from pathlib import Path

import torch
from torch import Tensor

from curate.encoders.fingerprint import path_digest
from train.evaluate.video_features.base import DistanceName
from train.evaluate.video_features.config import InceptionConfig

OPTION = "return_features"


class Inception:
    """Raises:
    ValueError: there is no such file, or it is another one.
    """

    distance: DistanceName = "fid"
    is_spread = True
    num_frames = 1

    def __init__(self, config: InceptionConfig, device: torch.device) -> None:
        if not Path(config.path).is_file():
            raise ValueError(f"inception: {config.path} is no file; expected inception-2015-12-05.pt of StyleGAN2-ADA")
        try:
            self._model = torch.jit.load(config.path, map_location=device).eval()
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"inception: {config.path} is no TorchScript file: {error}") from error
        if OPTION not in (argument.name for argument in self._model.forward.schema.arguments):
            raise ValueError(f"inception: {config.path} does not take {OPTION}; expected StyleGAN2-ADA's file")
        self._device, self.name = device, Path(config.path).stem.replace("-", "_")
        self.fingerprint = path_digest(Path(config.path))

    @torch.no_grad()
    def __call__(self, videos: Tensor) -> Tensor:
        pictures = videos[:, 0].to(self._device).permute(0, 3, 1, 2)  # (N, 3, H, W) uint8
        features: Tensor = self._model(pictures, **{OPTION: True})
        return features.flatten(1).float().cpu()
