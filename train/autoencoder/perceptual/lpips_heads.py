"""LPIPS (Zhang et al. 2018, section 3): weighted distances of a network's unit-normalized features, by `lpips`."""

import warnings
from urllib.error import URLError

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
            try:
                self._net = lpips.LPIPS(net=config.net, pnet_rand=config.path is not None, verbose=False)
            except URLError as error:
                raise ValueError(
                    f"{config.name}: torchvision cannot download its network ({error.reason}); give its file as `path`"
                ) from None
        if config.path is not None:
            what = f"torchvision's {config.net}"
            load_whole(self._net.net, state_dict_at(config.path), config.path, what, name_in_file=_torchvision_name)
        self._net.to(device).eval().requires_grad_(False)
        self.name, self.min_side_px = config.name, config.min_side_px

    def __call__(self, frames: Tensor, others: Tensor) -> Tensor:
        distances: Tensor = self._net(frames.float(), others.float())  # (N, 1, 1, 1)
        return distances.flatten()


def _torchvision_name(name: str) -> str:
    """Slices number their layers as torchvision does: slice2.3.weight is features.3.weight."""
    return f"features.{name.partition('.')[2]}"
