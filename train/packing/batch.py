"""Samples, and the pack that they become: latents of any size in one row of tokens (NaViT, Dehghani et al. 2023, §2).

Letters in shape comments: as in `train.packing.segments`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

import torch
from torch import Tensor

from train.packing.patches import first_frame_is_alone, grid_index, grid_positions, grid_size, patchify, unpatchify
from train.packing.segments import Segments, map_tensors
from train.packing.shapes import Patch
from train.packing.share import ContextGroup


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One latent with everything that is its own: noise, time, rate, caption and other conditions."""

    clip_id: str
    latent: Tensor  # (C, T, H, W) float, about unit std
    noise: Tensor  # (C, T, H, W) float, standard normal; or as tokens of the whole grid, (t * h * w, C * pt * ph * pw)
    timestep: float  # in [0, 1]: 0 is data, 1 is noise
    fps: float  # frames per second of the clip; 0 for an image
    temporal_stride: int = 1  # frames of the clip in a frame of the latent
    text: Tensor | None  # (n, D_text) float token states; None: the null caption
    label: int | None = None  # class; None: the null class
    scalars: Mapping[str, float] = field(default_factory=dict)  # scalar conditions by name; absent: the null one
    kept: Tensor | None = None  # sorted int64 indices into the grid's tokens: the others are dropped (NaViT §2.1)
    clean_mask: Tensor | None = None  # (t * h * w,) bool over the whole grid: conditioning tokens, shown at t = 0
    conditioning: Mapping[str, Tensor] = field(default_factory=dict)  # by name, (C', T, H, W) float: further latents
    noise_levels: Mapping[str, float] = field(default_factory=dict)  # of these, by name: share of noise, 0 to 1
    self_conditioned: bool | None = None  # the model is shown its own estimate; None: it reads none
    features: Tensor | None = None  # (t * h * w, F) float16 over the whole grid: what an image encoder says of tokens
    picture: Tensor | None = None  # (n, D') float states of a picture, by an image encoder; None: there is none

    def __post_init__(self) -> None:
        if not 0 <= self.timestep <= 1:
            raise ValueError(f"{self.clip_id}: got timestep {self.timestep:g}; expected 0 (data) to 1 (noise)")


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionTokens:
    """Tokens of the model's width that take the place of what it makes of a caption's states."""

    rows: Tensor  # (K,) int64 of the M caption tokens
    tokens: Tensor  # (K, D) float32


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictures:
    """States of the pictures of a pack. A segment without one has one row of zeros, and `given` False."""

    states: Tensor  # (I, D') as they were given
    segments: Segments  # over I
    given: Tensor  # (S,) bool


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedBatch:
    """A pack, ready for the model. A segment without a caption has one row of zeros as `text`, `has_caption` False.

    A pack has R condition vectors, and `condition_ids` says which of them steers a token. Vectors 0 … S - 1 are the
    segments' own, at their timesteps. After them comes one, at t = 0, for each segment with conditioning tokens.
    """

    clip_ids: tuple[str, ...]  # S
    segments: Segments  # over L
    tokens: Tensor  # (L, C * pt * ph * pw) float32, the clean latents
    noise: Tensor  # (L, C * pt * ph * pw) float32
    timesteps: Tensor  # (S,) float32
    positions: Tensor  # (L, 3) int64: frame, row and column of each token in its own grid of patches
    grid_sizes: tuple[Patch, ...]  # S: number of patches along (t, h, w), dropped ones too
    num_frames: tuple[int, ...]  # S: frames of the latents
    fps: Tensor  # (S,) float32
    latent_fps: Tensor  # (S,) float32: frames of the latent per second; 0 for an image
    text: Tensor  # (M, D_text) float16 or float32, as stored: the model converts it on the device
    text_segments: Segments  # over M
    has_caption: Tensor  # (S,) bool
    labels: Tensor  # (S,) int64; -1: none
    scalars: Tensor  # (S, K) float32; NaN: absent
    scalar_names: tuple[str, ...]  # K
    condition_ids: Tensor  # (L,) int64: the condition vector of each token
    condition_timesteps: Tensor  # (R,) float32
    condition_segments: Tensor  # (R,) int64
    loss_mask: Tensor  # (L,) bool: False on conditioning tokens
    num_learned: Tensor  # (S,) float32: tokens of each segment that have a loss
    conditioning: Mapping[str, Tensor] = field(default_factory=dict)  # by name, (L, C' * pt * ph * pw) float32
    noise_levels: Mapping[str, Tensor] = field(default_factory=dict)  # of these, by name, (S,) float32; NaN: none said
    self_conditioned: Tensor | None = None  # (S,) bool: who is shown the model's own estimate; None: it reads none
    lone_frames: Tensor | None = None  # (L,) bool: tubelets of one repeated frame; None: there are none
    features: Tensor | None = None  # (L, F) float16: what an image encoder says of each token; None: nothing
    group: ContextGroup | None = None  # ranks that share the pack: what is L here are this rank's own tokens
    caption_tokens: CaptionTokens | None = None  # None: the model's own everywhere
    pictures: Pictures | None = None  # None: no sample has one
    layout: object = None  # what the model's settings worked out ahead (`prepare`); None: nothing yet

    def to(self, device: torch.device | str) -> "PackedBatch":
        return map_tensors(self, lambda x: x.to(device, non_blocking=True))  # without pinned memory this blocks anyway

    def pin_memory(self) -> "PackedBatch":
        return map_tensors(self, Tensor.pin_memory)


def pack(samples: Sequence[Sample], patch: Patch, text_dim: int, scalar_names: Sequence[str] = ()) -> PackedBatch:
    """Lay samples end to end. `scalar_names` are the conditions that become columns of `scalars`."""
    grids = tuple(grid_size(sample.latent.shape, patch) for sample in samples)
    null = torch.zeros(1, text_dim, dtype=torch.float16)
    texts = [null if sample.text is None else sample.text for sample in samples]
    text_segments = Segments.of([len(text) for text in texts])
    segments = Segments.of([_num_tokens(sample, grid) for sample, grid in zip(samples, grids, strict=True)])
    timesteps = torch.tensor([sample.timestep for sample in samples], dtype=torch.float32)
    clean = torch.cat([_clean_tokens(sample, grid) for sample, grid in zip(samples, grids, strict=True)])
    condition_ids, condition_segments = _condition_vectors(segments, clean)
    positions = torch.cat([_kept(grid_positions(g), sample) for sample, g in zip(samples, grids, strict=True)])
    alone = torch.tensor([first_frame_is_alone(sample.latent.shape[1], patch) for sample in samples])
    return PackedBatch(
        clip_ids=tuple(sample.clip_id for sample in samples),
        segments=segments,
        tokens=_joined([sample.latent for sample in samples], samples, segments, patch),
        noise=_joined([sample.noise for sample in samples], samples, segments, patch),
        timesteps=timesteps,
        positions=positions,
        grid_sizes=grids,
        num_frames=tuple(sample.latent.shape[1] for sample in samples),
        fps=torch.tensor([sample.fps for sample in samples], dtype=torch.float32),
        latent_fps=torch.tensor([sample.fps / sample.temporal_stride for sample in samples], dtype=torch.float32),
        text=_stacked(texts, text_segments),
        text_segments=text_segments,
        has_caption=torch.tensor([sample.text is not None for sample in samples]),
        labels=torch.tensor([-1 if sample.label is None else sample.label for sample in samples]),
        scalars=torch.tensor(
            [[sample.scalars.get(name, math.nan) for name in scalar_names] for sample in samples], dtype=torch.float32
        ).reshape(len(samples), len(scalar_names)),
        scalar_names=tuple(scalar_names),
        condition_ids=condition_ids,
        condition_timesteps=torch.cat([timesteps, torch.zeros(len(condition_segments) - len(samples))]),
        condition_segments=condition_segments,
        loss_mask=~clean,
        num_learned=segments.sum((~clean).float()),
        conditioning=_conditioning(samples, segments, patch),
        noise_levels=_noise_levels(samples),
        self_conditioned=_self_conditioned(samples),
        lone_frames=segments.gather(alone) & (positions[:, 0] == 0) if alone.any() else None,
        features=_features(samples, segments),
        pictures=_pictures(samples),
    )


def _joined(latents: Sequence[Tensor], samples: Sequence[Sample], segments: Segments, patch: Patch) -> Tensor:
    """Tokens of all samples, (L, C * pt * ph * pw) float32, each written to its place."""
    features = latents[0].shape[1] if latents[0].ndim == 2 else latents[0].shape[0] * math.prod(patch)
    tokens = torch.empty(segments.num_tokens, features)
    for place, latent, sample in zip(tokens.split(segments.lengths), latents, samples, strict=True):
        whole = latent if latent.ndim == 2 else patchify(latent, patch)  # (t * h * w, C * pt * ph * pw)
        place.copy_(_kept(whole, sample))
    return tokens


def _stacked(texts: Sequence[Tensor], segments: Segments) -> Tensor:
    """One below the other, in the widest of their types. (`cat` is refused float16 by the autocast of a CPU, and to
    leave autocast for a moment empties the cache of the thread that trains.)"""
    dtype = reduce(torch.promote_types, (text.dtype for text in texts))
    stacked = torch.empty(segments.num_tokens, texts[0].shape[1], dtype=dtype)
    for place, text in zip(stacked.split(segments.lengths), texts, strict=True):
        place.copy_(text)
    return stacked


def _features(samples: Sequence[Sample], segments: Segments) -> Tensor | None:
    found = [_kept(sample.features, sample) for sample in samples if sample.features is not None]
    return _stacked(found, segments) if len(found) == len(samples) else None


def _num_tokens(sample: Sample, grid: Patch) -> int:
    return math.prod(grid) if sample.kept is None else len(sample.kept)


def _kept(tokens: Tensor, sample: Sample) -> Tensor:
    return tokens if sample.kept is None else tokens.index_select(0, sample.kept)


def _clean_tokens(sample: Sample, grid: Patch) -> Tensor:
    """(n,) bool over the tokens that are not dropped: those that are shown at t = 0."""
    clean = torch.zeros(math.prod(grid), dtype=torch.bool) if sample.clean_mask is None else sample.clean_mask
    assert clean.shape == (math.prod(grid),), f"{sample.clip_id}: clean_mask {tuple(clean.shape)} on a grid of {grid}"
    return _kept(clean, sample)


def _conditioning(samples: Sequence[Sample], segments: Segments, patch: Patch) -> dict[str, Tensor]:
    """Conditioning latents as tokens, by name: (L, C' * pt * ph * pw) float32. A sample without one has zeros."""
    channels = {name: len(latent) for sample in samples for name, latent in sample.conditioning.items()}
    return {
        name: _joined(
            [s.conditioning.get(name, s.latent.new_zeros(n, *s.latent.shape[1:])) for s in samples],
            samples,
            segments,
            patch,
        )
        for name, n in channels.items()
    }


def _noise_levels(samples: Sequence[Sample]) -> dict[str, Tensor]:
    names = {name: None for sample in samples for name in sample.noise_levels}
    return {name: torch.tensor([sample.noise_levels.get(name, math.nan) for sample in samples]) for name in names}


def _self_conditioned(samples: Sequence[Sample]) -> Tensor | None:
    drawn = [sample.self_conditioned for sample in samples]
    return None if None in drawn else torch.tensor(drawn)


def _pictures(samples: Sequence[Sample]) -> Pictures | None:
    width = next((sample.picture.shape[1] for sample in samples if sample.picture is not None), None)
    if width is None:
        return None
    states = [torch.zeros(1, width) if sample.picture is None else sample.picture for sample in samples]
    segments = Segments.of([len(one) for one in states])
    given = torch.tensor([sample.picture is not None for sample in samples])
    return Pictures(states=_stacked(states, segments), segments=segments, given=given)


def _condition_vectors(segments: Segments, clean: Tensor) -> tuple[Tensor, Tensor]:
    """Condition vector of each token, (L,), and segment of each vector, (R,): see `PackedBatch`."""
    has_clean = segments.sum(clean.long()) > 0  # (S,)
    clean_vector = segments.num_segments + has_clean.cumsum(0) - 1  # (S,): read only where has_clean
    condition_ids = torch.where(clean, segments.gather(clean_vector), segments.segment_ids)
    return condition_ids, torch.cat([torch.arange(segments.num_segments), has_clean.nonzero()[:, 0]])


def renoised(
    batch: PackedBatch, samples: Sequence[Sample], noises: Sequence[Tensor], timestep: float, patch: Patch
) -> PackedBatch:
    """The pack of these samples with other noise, (C, T, H, W) each, at `timestep`; conditioning tokens stay at 0."""
    noise = _joined(noises, samples, batch.segments, patch).to(batch.noise.device, non_blocking=True)
    timesteps = torch.full_like(batch.timesteps, timestep)
    condition_timesteps = torch.cat([timesteps, batch.condition_timesteps[len(samples) :]])
    return replace(batch, noise=noise, timesteps=timesteps, condition_timesteps=condition_timesteps)


def unpack(tokens: Tensor, batch: PackedBatch, patch: Patch) -> list[Tensor]:
    """Tokens of a pack, (L, C * pt * ph * pw), to one latent (C, T, H, W) per segment; 0 where tokens were dropped."""
    parts, places = (x.split(batch.segments.lengths) for x in (tokens, batch.positions))
    latents = []
    for part, place, grid, frames in zip(parts, places, batch.grid_sizes, batch.num_frames, strict=True):
        whole = part.new_zeros(math.prod(grid), part.shape[1])
        latents.append(unpatchify(whole.index_copy(0, grid_index(place, grid), part), grid, patch, frames))
    return latents


def latent_shapes(batch: PackedBatch, patch: Patch) -> list[tuple[int, int, int, int]]:
    """(C, T, H, W) of the latent of each segment, dropped tokens too."""
    channels = batch.tokens.shape[1] // math.prod(patch)
    sizes = zip(batch.grid_sizes, batch.num_frames, strict=True)
    return [(channels, frames, h * patch[1], w * patch[2]) for (_, h, w), frames in sizes]
