"""Sampling with one random generator per row: a row's tokens depend on its seed and its logits alone.

The largest of logits + Gumbel noise is a sample of their softmax (Maddison et al., A* Sampling, 2014, section 2). So
noise on the logits makes the greedy choice a sample, where `do_sample` draws all rows from one generator: a clip then
gets another text beside other clips.
"""

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor, TemperatureLogitsWarper, TopPLogitsWarper

MIN_NOISE = 1e-30
"""Of an exponential variable, whose logarithm must be finite."""


class SeededSampling(LogitsProcessor):
    """Makes the greedy choice a sample of the softmax at `temperature`, cut to the nucleus `top_p`.

    Args:
        seeds: one per row of the batch.
        temperature: above 0.
        top_p: in (0, 1].
    """

    def __init__(self, seeds: Sequence[int], *, temperature: float, top_p: float) -> None:
        self._seeds = seeds
        self._warpers: list[LogitsProcessor] = [TemperatureLogitsWarper(float(temperature))]
        if top_p < 1:
            self._warpers.append(TopPLogitsWarper(top_p))
        self._generators: list[torch.Generator] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """`scores`: (rows, vocabulary) logits; returned in float32 with noise."""
        if not self._generators:  # the device is known now
            self._generators = [torch.Generator(scores.device).manual_seed(seed) for seed in self._seeds]
        scores = scores.float()
        for warper in self._warpers:
            scores = warper(input_ids, scores)
        noise = torch.stack([torch.empty_like(scores[0]).exponential_(generator=one) for one in self._generators])
        return scores - noise.clamp_min(MIN_NOISE).log()
