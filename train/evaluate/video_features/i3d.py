"""I3D (Carreira & Zisserman 2017) in TorchScript: the network of most published FVDs.

The file resizes frames to 224 x 224 px and scales values itself. It gives features before the softmax: 400 of
Kinetics-400.
"""

from pathlib import Path

import torch
from torch import Tensor

from curate.encoders.fingerprint import path_digest
from train.evaluate.video_features.base import DistanceName
from train.evaluate.video_features.config import I3DConfig

OPTIONS = ("rescale", "resize", "return_features")
"""Arguments of the file's `forward`, all of them true."""


class I3D:
    """Raises:
    ValueError: there is no such file, or it is another one.
    """

    distance: DistanceName = "fvd"
    is_spread = False

    def __init__(self, config: I3DConfig, device: torch.device) -> None:
        if not Path(config.path).is_file():
            raise ValueError(f"i3d: {config.path} is no file; expected i3d_torchscript.pt, that of StyleGAN-V")
        try:
            self._model = torch.jit.load(config.path, map_location=device).eval()
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"i3d: {config.path} is no TorchScript file: {error}") from error
        arguments = [argument.name for argument in self._model.forward.schema.arguments]
        if missing := [name for name in OPTIONS if name not in arguments]:
            raise ValueError(f"i3d: {config.path} does not take {', '.join(missing)}; expected StyleGAN-V's file")
        self._device, self.fingerprint = device, path_digest(Path(config.path))
        self.name, self.num_frames = f"{Path(config.path).stem}_{config.num_frames}", config.num_frames

    @torch.no_grad()
    def __call__(self, videos: Tensor) -> Tensor:
        x = videos.to(self._device).permute(0, 4, 1, 2, 3).float()  # (N, 3, T, H, W) of 0 to 255
        features: Tensor = self._model(x, **dict.fromkeys(OPTIONS, True))
        return features.flatten(1).float().cpu()
