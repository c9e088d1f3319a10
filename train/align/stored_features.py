"""Features of tokens of the maps that `encode` has stored: `encode.features`."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from train.data.manifest import Manifest
from train.data.read import ClipReader
from train.packing.patches import fitting_size, grid_size
from train.packing.shapes import Patch


class StoredFeatures:
    """See `train.align.base.TokenFeatures`: one map for each latent frame, interpolated to the grid of patches. They
    are those of `ClipFeatures` with one frame of a token, within the rounding of float16.

    Args:
        manifest: of the training clips.
        patch: of the model.
        device: of the worker.

    Raises:
        ValueError: the latents have none, or patches are not of whole maps.
    """

    def __init__(self, manifest: Manifest, patch: Patch, device: torch.device) -> None:
        latents, sides = manifest.latents, (manifest.column(f"latent_{axis}").to_numpy() for axis in "hw")
        if not latents.get("features"):
            raise ValueError(
                f"train.align.stored: latents {latents['fingerprint']} have no features; encode with encode.features, "
                "or set it to false, which computes them while training"
            )
        if patch[0] > 1 or any((side % part).any() for side, part in zip(sides, patch[1:], strict=True)):
            raise ValueError(
                f"train.align.stored: features are of whole latent frames, and patches {tuple(patch)} are of several, "
                "or leave rows or columns out; set it to false, or train.model.patch to one that divides all latents"
            )
        self.manifest, self.patch, self._reader = manifest, patch, ClipReader(manifest, patch, device)

    def of(self, index: int, row: dict[str, Any], num_frames: int) -> Tensor:
        t, h, w = fitting_size((num_frames, row["latent_h"], row["latent_w"]), self.patch)
        _, *grid = grid_size((t, h, w), self.patch)
        maps = self._reader.features(row)[:t].float()  # (T, F, h', w')
        features = F.interpolate(maps, tuple(grid), mode="bilinear", antialias=True)
        return features.permute(0, 2, 3, 1).flatten(0, 2).half()  # (t h w, F)
