"""One answer of the model under guidance, from a pack of all branches that count.

A branch is a sample without what a rule drops; the first branch is the whole sample. All of them stay at the same x,
and their predictions are combined linearly, with factors whose sum is 1 (`coefficients`).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from train.objective.base import NoiseLevel
from train.packing.batch import PackedBatch, Sample
from train.sampling.guidance.base import Droppable
from train.sampling.guidance.config import AnyRule, coefficients

Network = Callable[[Tensor, Tensor, PackedBatch], Tensor]
"""Noisy tokens (L, P), timesteps (S,) and the pack to predictions (L, P), with learned variances (L, 2 P)."""

WITHOUT: dict[Droppable, dict[str, Any]] = {
    "caption": {"text": None},
    "label": {"label": None},
    "scalars": {"scalars": {}},
    "frames": {"clean_mask": None},
}
"""Fields of a sample from which a part is dropped."""


class GuidedModel:
    """The network under the rules, for one list of samples.

    Args:
        model: the network.
        samples: S of them.
        rules: what is dropped, and the weight of each.
        packed: samples to a pack that is ready for the model.
    """

    def __init__(
        self,
        model: Network,
        samples: Sequence[Sample],
        rules: Sequence[AnyRule],
        packed: Callable[[Sequence[Sample]], PackedBatch],
    ) -> None:
        self._model, self._rules, self._packed = model, rules, packed
        self._branches = [list(samples), *([without(sample, rule.drop) for sample in samples] for rule in rules)]
        self._packs: dict[tuple[int, ...], PackedBatch] = {}

    def __call__(self, x: Tensor, level: NoiseLevel, spread: Callable[[Tensor], Tensor]) -> Tensor:
        """The guided output at a level.

        Args:
            x: (L, P); a branch has its conditioning tokens clean in place of x's.
            level: of the S samples, on the CPU.
            spread: (S,) to (L, 1) on x's device.

        Returns:
            (L, P) float32, with learned variances (L, 2 P): those of the first branch that counts, as in DiT's code.
        """
        by_segment = [coefficients([rule.weight_at(t) for rule in self._rules]) for t in level.time.tolist()]
        factors = torch.tensor(by_segment, dtype=torch.float64).T  # (branches, S)
        active = tuple(i for i, factor in enumerate(factors) if factor.any())
        batch = self._pack(active)
        inputs = torch.where(batch.loss_mask[:, None], x.repeat(len(active), 1), batch.tokens)  # (branches · L, P)
        timesteps = level.timesteps.to(x.device).repeat(len(active))
        outputs = self._model(inputs, timesteps, batch).float().chunk(len(active))
        if len(active) == 1:
            return outputs[0]
        predictions, variances = zip(*(output.tensor_split([x.shape[1]], dim=1) for output in outputs), strict=True)
        *others, guided = predictions
        last = guided
        for i, prediction in zip(active, others, strict=False):
            guided = guided + spread(factors[i]) * (prediction - last)
        return torch.cat([guided, variances[0]], dim=1)

    def _pack(self, active: tuple[int, ...]) -> PackedBatch:
        if active not in self._packs:
            self._packs[active] = self._packed([sample for i in active for sample in self._branches[i]])
        return self._packs[active]


def without(sample: Sample, drop: Sequence[Droppable]) -> Sample:
    """The sample without these parts."""
    return replace(sample, **{name: value for part in drop for name, value in WITHOUT[part].items()})
