"""Distance of unit-normalized features of a classifier, with equal weights of channels.

Equation 1 of Zhang et al. 2018 with weights of one. It orders distortions less well than LPIPS, whose heads are
learned from judgments of people.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from curate.encoders import torchvision_cpu, weights
from curate.encoders.efficientnet import WEIGHTS
from train.autoencoder.perceptual.base import load_whole, state_dict_at
from train.autoencoder.perceptual.config import FeaturesConfig

EPSILON = 1e-10


class Features:
    """All stages of an architecture of timm.

    Raises:
        MissingWeights: the embedded weights were not fetched.
        ValueError: timm is not installed or has no such architecture, it takes frames of one size only, or the weights
            are missing or of another one.
    """

    def __init__(self, config: FeaturesConfig, device: torch.device) -> None:
        torchvision_cpu.repair()
        try:
            import timm
        except ModuleNotFoundError:
            raise ValueError("features: timm is not installed; pip install 'reelpack[perceptual]'") from None
        if not timm.is_model(config.model):
            raise ValueError(f"features: timm {timm.__version__} has no architecture {config.model}")
        model = timm.create_model(config.model, pretrained=False)
        settings = model.pretrained_cfg
        if settings.get("fixed_input_size") or not hasattr(model, "forward_intermediates"):
            raise ValueError(f"features: {config.model} takes frames of one size; expected a convolutional network")
        path = config.path or str(weights.resolve(WEIGHTS))
        load_whole(model, state_dict_at(path), path, f"timm's {config.model}")
        self._model = model.to(device)
        mean, std = (torch.tensor(settings[key], device=device).view(1, 3, 1, 1) for key in ("mean", "std"))
        self._shift, self._scale = 2 * mean - 1, 2 * std  # timm's are of values in [0, 1]
        self.name, self.min_side_px = config.name, config.min_side_px

    def __call__(self, frames: Tensor, others: Tensor) -> Tensor:
        pairs = zip(self._stages(frames), self._stages(others), strict=True)
        return torch.stack([(one - other).square().sum(1).mean((1, 2)) for one, other in pairs]).mean(0)

    def _stages(self, frames: Tensor) -> list[Tensor]:
        """Maps (N, C, h, w) of unit length at each position, from the first stage to the last."""
        x = (frames.float() - self._shift) / self._scale
        return [
            F.normalize(x, dim=1, eps=EPSILON) for x in self._model.forward_intermediates(x, intermediates_only=True)
        ]
