"""What steers a sample: its timestep, its caption, its label, its frame rate and other numbers of the clip.

A pack is many samples, so nothing here is shared over a pack: there is one condition vector per segment, and one more
for its given tokens, at t = 0. DiT has four ways to condition (Peebles & Xie 2023, §3.2): tokens in the sequence,
tokens that are attended to, and layer norms whose shift and scale come from the condition vector, with gates (Zero) or
without.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.model.base_config import ESTIMATE, DenoiserConfig
from train.model.caption_config import CaptionConfig
from train.model.flops import linear_flops
from train.model.mixers.attention import Picture
from train.packing.batch import CaptionTokens, PackedBatch
from train.packing.segments import Segments

FREQUENCY_WIDTH = 256


class ConditionLinear(nn.Linear):
    """A linear layer on condition vectors, in float32 under autocast, too.

    They are few, and 1 is added to what they become: in bfloat16 that has steps of 1/128, in which adaLN-Zero's small
    scales are lost.
    """

    def forward(self, vectors: Tensor) -> Tensor:
        """(R, D_in) to (R, D_out) float32."""
        with torch.autocast(vectors.device.type, enabled=False):
            # The weights of a sharded model are gathered in bfloat16.
            bias = None if self.bias is None else self.bias.float()
            return F.linear(vectors.float(), self.weight.float(), bias)


class ScalarEmbedder(nn.Module):
    """A number per segment to a vector: sinusoids, then an MLP (DiT's timestep embedder).

    Args:
        width: D.
        scale: the fastest sinusoid turns by this many radians per unit.
        slowest: the slowest one is this many times slower.
        includes_slowest: the frequencies end on it; else one step before, as in the published DiT.
    """

    def __init__(self, width: int, scale: float, slowest: float = 10_000.0, *, includes_slowest: bool = False) -> None:
        super().__init__()
        self.scale = scale
        half = FREQUENCY_WIDTH // 2
        # In this order, as elsewhere: a last bit of a frequency, times 1000, is seen in the output.
        logarithms = -math.log(slowest) * torch.arange(half) / (half - 1 if includes_slowest else half)
        self.register_buffer("frequencies", logarithms.exp(), persistent=False)  # (128,)
        self.mlp = nn.Sequential(ConditionLinear(FREQUENCY_WIDTH, width), nn.SiLU(), ConditionLinear(width, width))

    def forward(self, values: Tensor) -> Tensor:
        angles = self.scale * values.float()[:, None] * self.frequencies  # (S, 128)
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=-1))  # (S, D)


class CaptionEmbedder(nn.Module):
    """Token states of the caption to the model's width."""

    def __init__(self, config: CaptionConfig, text_dim: int, width: int) -> None:
        super().__init__()
        self.text_dim = text_dim
        self.norm = nn.LayerNorm(text_dim) if config.norm else nn.Identity()
        self.mlp = nn.Sequential(nn.Linear(text_dim, width), nn.GELU(approximate="tanh"), nn.Linear(width, width))
        self.out_norm = nn.RMSNorm(width, eps=1e-5) if config.out_norm else nn.Identity()
        self.pool = nn.Linear(width, width) if config.pooled else None
        self.null = nn.Parameter(torch.empty(width)) if config.absent == "learned" else None

    def forward(
        self, text: Tensor, segments: Segments, has_caption: Tensor, others: CaptionTokens | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Caption tokens (M, D_text) to tokens of the model, (M, D), and their mean over each segment, (S, D).

        "No caption" has one row of zeros: it is embedded, or the learned token stands for it. `others` take the place
        of some tokens.
        """
        tokens = self.out_norm(self.mlp(self.norm(text)))  # (M, D)
        if self.null is not None:
            given = segments.gather(has_caption)[:, None]  # (M, 1)
            tokens = torch.where(given, tokens, self.null.to(tokens.dtype))  # (M, D)
        if others is not None:
            tokens = tokens.index_copy(0, others.rows, others.tokens.to(tokens.dtype))  # (M, D)
        return tokens, None if self.pool is None else self.pool(segments.mean(tokens))  # (M, D), (S, D)

    @property
    def absent(self) -> Tensor:
        """The token that stands for "no caption", (D,)."""
        return self.padding()[0] if self.null is None else self.null

    def padding(self) -> Tensor:
        """The token of a state of zeros, (1, D)."""
        return self.out_norm(self.mlp(self.norm(self.mlp[0].weight.new_zeros(1, self.text_dim))))


def absent_caption(model: nn.Module) -> Tensor | None:
    """What a model reads for "no caption", (D,); None: it reads no captions."""
    embedder = next((part for part in model.modules() if isinstance(part, CaptionEmbedder)), None)
    return None if embedder is None else embedder.absent


class LabelEmbedder(nn.Module):
    """A class to a vector; the row after the last class stands for "no label"."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(num_classes + 1, width)

    def forward(self, labels: Tensor) -> Tensor:
        return self.table(torch.where(labels < 0, self.table.num_embeddings - 1, labels))  # (S, D)


class ScalarConditionEmbedder(nn.Module):
    """A number of the clip to a vector, NaN to a learned one.

    Its sinusoids span six decades, so pixels, seconds and scores between 0 and 1 need no scale of their own.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scalar = ScalarEmbedder(width, scale=100.0, slowest=1e6)
        self.null = nn.Parameter(torch.empty(width))

    def forward(self, values: Tensor) -> Tensor:
        absent = values.isnan()
        vectors = self.scalar(values.masked_fill(absent, 0.0))  # (S, D)
        return torch.where(absent[:, None], self.null.to(vectors.dtype), vectors)  # (S, D)


class SizeEmbedder(nn.Module):
    """Height, width and height over width of a sample, each to a third of a vector.

    Args:
        width: D.
        unit_px: pixels of a patch.
    """

    def __init__(self, width: int, unit_px: int) -> None:
        super().__init__()
        self.unit_px = unit_px
        self.side, self.aspect = (ScalarEmbedder(width // 3, scale=1.0) for _ in range(2))

    def forward(self, batch: PackedBatch) -> Tensor:
        grids = [(float(rows), float(columns)) for _, rows, columns in batch.grid_sizes]
        sides = torch.tensor(grids).to(batch.fps.device, non_blocking=True) * self.unit_px  # (S, 2)
        vectors = (self.side(sides[:, 0]), self.side(sides[:, 1]), self.aspect(sides[:, 0] / sides[:, 1]))
        return torch.cat(vectors, dim=-1)  # (S, D)


class ConditioningEmbedder(nn.Module):
    """Adds the conditioning latents of a pack, by name, to the embedded patches.

    A sum of linear layers is one linear layer on concatenated channels (Ho et al. 2022, "Cascaded Diffusion Models",
    §3). The weights start at zero: a model without conditioning latents is continued as it is. Absent is zero.
    """

    def __init__(self, config: DenoiserConfig, width: int, channels: int) -> None:
        """`channels`: of the latents, and so of the model's own estimate."""
        super().__init__()
        of_names = config.conditioning_latents | ({ESTIMATE: channels} if config.self_conditioning else {})
        features = {name: n * math.prod(config.patch) for name, n in of_names.items()}
        self.layers = nn.ModuleDict({name: nn.Linear(n, width, bias=False) for name, n in features.items()})

    def zero(self) -> None:
        for layer in self.layers.values():
            nn.init.zeros_(layer.weight)

    def forward(self, x: Tensor, latents: Mapping[str, Tensor]) -> Tensor:
        """Embedded patches (L, D) and the pack's latents by name, (L, C' · patch), to (L, D).

        Raises:
            ValueError: the pack carries a latent that the model does not read.
        """
        if unread := sorted(set(latents) - set(self.layers)):
            raise ValueError(
                f"the pack carries the conditioning latents {', '.join(unread)}, and the model reads "
                f"{', '.join(self.layers) or 'none'}; set train.model.conditioning_latents"
            )
        for name, layer in self.layers.items():
            tokens = latents.get(name)
            if tokens is None:  # the layer takes part in every step: ranks of DDP wait for each gradient
                tokens = x.new_zeros(len(x), layer.in_features)
            x = x + layer(tokens)
        return x


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """What a block needs to know in addition to its tokens."""

    vectors: Tensor  # (R, D): each the sum of all conditions of a segment, at one timestep
    condition_ids: Tensor  # (N,): the condition vector of each token; given tokens have one of their own (t = 0)
    shared: Tensor | None  # (R, chunks · D): modulation that all blocks share
    context: Tensor | None  # (M', D): what cross-attention reads
    context_segments: Segments | None  # over M'
    neighbors: Tensor | None = None  # (N, 9) int64: the tokens around each; N: none. None: no MLP convolves
    picture: Picture | None = None  # what cross-attention reads beside the context; None: no sample has a picture


class Conditioner(nn.Module):
    """All conditions of a pack.

    Args:
        config: which there are.
        text_dim: features of a caption's token states.
        width: D.
        timestep_scale: timesteps are multiplied by it before their sinusoids.
        includes_slowest: the sinusoids' frequencies end on the slowest.
        caption: how caption tokens are made; none: as by default.
        unit_px: pixels of a patch, if sizes steer the model.
    """

    def __init__(
        self,
        config: DenoiserConfig,
        text_dim: int,
        width: int,
        timestep_scale: float,
        *,
        includes_slowest: bool = False,
        caption: CaptionConfig | None = None,
        unit_px: int | None = None,
    ) -> None:
        super().__init__()
        self.names = config.conditions
        self.timestep = ScalarEmbedder(width, timestep_scale, includes_slowest=includes_slowest)
        self.caption = CaptionEmbedder(caption or CaptionConfig(), text_dim, width) if config.reads_captions else None
        self.label = None if config.num_classes is None else LabelEmbedder(config.num_classes, width)
        self.fps = ScalarEmbedder(width, scale=1.0) if config.condition_on_fps else None
        self.size = None if unit_px is None else SizeEmbedder(width, unit_px)
        # `extras` is the name in checkpoints.
        self.extras = nn.ModuleList(ScalarConditionEmbedder(width) for _ in config.conditions)
        self.noise = nn.ModuleDict({name: ScalarConditionEmbedder(width) for name in config.conditioning_latents})

    def forward(self, timesteps: Tensor, batch: PackedBatch) -> tuple[Tensor, Tensor, Tensor | None]:
        """Timesteps of the segments, (S,), to condition vectors (R, D), condition tokens (S, V, D) and caption tokens
        (M, D)."""
        caption_tokens, conditions = None, []
        if self.caption is not None:
            caption_tokens, pooled = self.caption(
                batch.text.float(), batch.text_segments, batch.has_caption, batch.caption_tokens
            )  # (M, D), (S, D)
            conditions += [] if pooled is None else [pooled]
        if self.label is not None:
            conditions.append(self.label(batch.labels))  # (S, D)
        if self.fps is not None:
            conditions.append(self.fps(batch.fps))  # (S, D)
        if self.size is not None:
            conditions.append(self.size(batch))  # (S, D)
        conditions += [embed(self._scalar(name, batch)) for name, embed in zip(self.names, self.extras, strict=True)]
        conditions += [embed(self._noise_level(name, batch)) for name, embed in self.noise.items()]
        num_given = len(batch.condition_segments) - len(timesteps)
        time = self.timestep(torch.cat([timesteps, timesteps.new_zeros(num_given)]))  # (R, D)
        vectors = time + sum(conditions).index_select(0, batch.condition_segments) if conditions else time  # (R, D)
        return vectors, torch.stack([time[: len(timesteps)], *conditions], dim=1), caption_tokens

    def flops(self, batch: PackedBatch) -> int:
        """Matrix products of one forward pass."""
        num_segments = batch.segments.num_segments
        total = linear_flops(self.timestep, len(batch.condition_segments))
        total += linear_flops(self.fps, num_segments) + linear_flops(self.extras, num_segments)
        total += linear_flops(self.noise, num_segments)
        if self.size is not None:
            total += linear_flops(self.size.side, 2 * num_segments) + linear_flops(self.size.aspect, num_segments)
        if self.caption is not None:
            total += linear_flops(self.caption.mlp, batch.text_segments.num_tokens)
            total += linear_flops(self.caption.pool, num_segments)
        return total

    def _scalar(self, name: str, batch: PackedBatch) -> Tensor:
        if name not in batch.scalar_names:
            raise ValueError(f"the model is conditioned on {name}, the pack carries {batch.scalar_names or 'nothing'}")
        return batch.scalars[:, batch.scalar_names.index(name)]  # (S,)

    def _noise_level(self, name: str, batch: PackedBatch) -> Tensor:
        """Of a conditioning latent, (S,)."""
        levels = batch.noise_levels.get(name)
        return batch.timesteps.new_full(batch.timesteps.shape, torch.nan) if levels is None else levels


def two_or_more(vectors: Tensor) -> Tensor:
    """(n, D); for n = 1 with a second vector, which no token reads: compilers make other code for sides of 1."""
    return torch.cat([vectors, vectors.detach()]) if len(vectors) == 1 else vectors
