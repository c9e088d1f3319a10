"""Floating-point operations of a pack, counted from its segments: what model FLOPs utilization is a share of.

A multiplication and an addition are two. Counted are the matrix products of the forward pass, and three times those of
a step; what recomputation does again is not (PaLM, Chowdhery et al. 2022, appendix B).
"""

import re
from collections import Counter

import torch
from torch import nn

from train.model.dit import DiT
from train.model.patterns import block_windows, build_layout
from train.packing.batch import PackedBatch
from train.packing.segments import Segments

PEAK_TFLOPS = {
    "GB300": 2500,
    "GB200": 2500,
    "B300": 2250,
    "B200": 2250,
    "GH200": 989,
    "H200": 989,
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "L40": 181,
    "L4": 121,
    "A10": 125,
    "A10G": 70,
    "RTX 4090": 165,
}
"""Dense bfloat16 in 10¹² per second by the makers' data sheets; the first name that is a word of a device's holds."""


def peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """Of a known GPU in bfloat16, per second; None of anything else."""
    if device.type != "cuda" or dtype is not torch.bfloat16:
        return None
    return peak_of(torch.cuda.get_device_name(device))


def peak_of(device_name: str) -> float | None:
    """Of a device by its name, per second."""
    words = ((peak, rf"\b{known}\b") for known, peak in PEAK_TFLOPS.items())
    return next((peak * 1e12 for peak, word in words if re.search(word, device_name)), None)


class FlopCount:
    """Counts packs of one model."""

    def __init__(self, model: DiT) -> None:
        self.config = model.config
        self.weights = _weights_by_row(model)

    def forward(self, batch: PackedBatch) -> int:
        """Of one forward pass over the pack."""
        layout = batch.layout or build_layout(batch, self.config)
        rows = {
            "patch": batch.segments.num_tokens,
            "token": layout.segments.num_tokens,
            "segment": batch.segments.num_segments,
            "condition": len(batch.condition_segments),
            "text": batch.text_segments.num_tokens,
            "context": 0 if layout.context_segments is None else layout.context_segments.num_tokens,
        }
        total = sum(2 * numel * rows[kind] for kind, numel in self.weights.items())
        for block in range(self.config.depth):
            for windows in block_windows(self.config, block):
                width = self.config.width // len(windows)
                total += sum(4 * width * _pairs(layout.groups[window].segments) for window in windows)
        if layout.context_segments is not None:
            total += 4 * self.config.width * self.config.depth * _pairs(layout.segments, layout.context_segments)
        return total

    def step(self, batch: PackedBatch) -> int:
        """Forward and backward."""
        return 3 * self.forward(batch)


def _pairs(queries: Segments, keys: Segments | None = None) -> int:
    """Pairs of tokens that attend: one product of a query with a key each."""
    n, m = (segments.host.ends.diff().long() for segments in (queries, keys or queries))  # each (S,), on the host
    return int((n * m).sum())


def _weights_by_row(model: DiT) -> Counter[str]:
    """Numbers of weights by what they are multiplied with: patches, tokens, conditions …"""
    weights: Counter[str] = Counter()

    def add(kind: str, *modules: nn.Module | None) -> None:
        for module in modules:
            for part in () if module is None else module.modules():
                weights[kind] += part.weight.numel() if isinstance(part, nn.Linear) else 0

    add("patch", model.embed)
    for conditioner in model.conditioners:
        add("condition", conditioner.timestep)
        add("segment", conditioner.fps, conditioner.extras)
        if conditioner.caption is not None:
            add("text", conditioner.caption.mlp)
            add("segment", conditioner.caption.pool)
    add("condition", model.shared_modulation, model.final.modulation)
    for block in model.blocks:
        add("condition", block.modulation)
        add("token", block.self_attentions, block.mlp)
        if block.cross_attention is not None:
            add("token", block.cross_attention.to_q, block.cross_attention.out)
            add("context", block.cross_attention.to_kv)
    add("token", model.final.linear)
    return weights
