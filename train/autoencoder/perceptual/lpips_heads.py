"""LPIPS (Zhang et al. 2018, section 3): weighted distances of a network's unit-normalized features, by `lpips`."""

import warnings

import torch
from torch import Tensor

from curate.encoders import torchvision_cpu
from train.autoencoder.perceptual.base import load_whole, state_dict_at
from train.autoencoder.perceptual.config import LpipsConfig


class Lpips:
    """The heads come with the package; the network below them is torchvision's.

    Raises:
        ValueError: `lpips` is not installed, or the weights of the network are missing or of another one.
    """

    def __init__(self, config: LpipsConfig, device: torch.device) -> None:
        torchvision_cpu.repair()
        try:
            import lpips
        except ModuleNotFoundError as error:
            raise ValueError(f"lpips: {error.name} is not installed; pip install 'reelpack[perceptual]'") from None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of arguments that torchvision calls deprecated
            self._net = lpips.LPIPS(net=config.net, pnet_rand=config.path is not None, verbose=False)
        if config.path is not None:
            # The slices number their layers as torchvision's `features` does: slice2.3.weight is features.3.weight.
            layers = {name.partition(".")[2]: name for name in self._net.net.state_dict()}
            given = state_dict_at(config.path)
            state = {
                layers[name]: value for key, value in given.items() if (name := key[len("features.") :]) in layers
            }
            load_whole(self._net.net, state, config.path, f"torchvision's {config.net}")
        self._net.to(device).eval().requires_grad_(False)
        self.name, self.min_side_px = config.name, config.min_side_px

    def __call__(self, frames: Tensor, others: Tensor) -> Tensor:
        distances: Tensor = self._net(frames.float(), others.float())  # (N, 1, 1, 1)
        return distances.flatten()
