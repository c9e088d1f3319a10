"""States of a picture, by an image encoder, to tokens that cross-attention reads (Wan 2.1, `WanImageEmbedding`).

Letters: I states of the pack's pictures, D width, S segments.
"""

import torch
from torch import Tensor, nn

from train.model.picture_config import PictureConfig
from train.packing.batch import Pictures
from train.packing.segments import Segments


class PictureEmbedder(nn.Module):
    """Norm, MLP, norm."""

    def __init__(self, config: PictureConfig, width: int) -> None:
        super().__init__()
        self.positions = None if config.positions is None else nn.Parameter(torch.zeros(config.positions, config.dim))
        self.norm = nn.LayerNorm(config.dim)
        self.mlp = nn.Sequential(nn.Linear(config.dim, config.dim), nn.GELU(), nn.Linear(config.dim, width))
        self.out_norm = nn.LayerNorm(width)

    def absent(self, num_segments: int, device: torch.device) -> Pictures:
        """Where no sample has one: states that no token reads."""
        return Pictures(
            states=torch.zeros(num_segments, self.norm.normalized_shape[0], device=device),
            segments=Segments.of([1] * num_segments).to(device),
            given=torch.zeros(num_segments, dtype=torch.bool, device=device),
        )

    def forward(self, pictures: Pictures) -> Tensor:
        """(I, D_states) to (I, D).

        Raises:
            ValueError: a sample has more states than there are positions.
        """
        states = pictures.states.float()
        if self.positions is not None:
            if (longest := max(pictures.segments.lengths)) > len(self.positions):
                raise ValueError(
                    f"got a picture of {longest} states, and train.model.picture.positions is {len(self.positions)}"
                )
            first = pictures.segments.gather(pictures.segments.cu_seqlens[:-1].long())  # (I,)
            places = torch.arange(len(states), device=states.device) - first
            states = states + self.positions[places]
        return self.out_norm(self.mlp(self.norm(states)))
