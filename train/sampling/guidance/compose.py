"""One answer of the model under guidance, from a pack of all branches that count.

A branch is a sample without what a rule drops, or under a weaker model; the first branch is the whole sample. All of
them stay at the same x, and their predictions are added with factors whose sum is 1 (`coefficients`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from train.objective.base import NoiseLevel
from train.objective.self_conditioning import shown
from train.packing.batch import CaptionTokens, PackedBatch, Sample
from train.packing.shapes import LONE_FRAMES, SHOWN
from train.sampling.guidance.autoguidance import AutoGuidance
from train.sampling.guidance.base import Droppable
from train.sampling.guidance.combination import Answer
from train.sampling.guidance.config import AnyCombination, AnyRule, coefficients

Network = Callable[[Tensor, Tensor, PackedBatch], Tensor]
"""Noisy tokens (L, P), timesteps (S,) and the pack to predictions (L, P), with learned variances (L, 2 P)."""

WITHOUT: dict[Droppable, dict[str, Any]] = {
    "caption": {"text": None},
    "label": {"label": None},
    "scalars": {"scalars": {}},
    "frames": {"clean_mask": None, "picture": None},
}
"""Fields of a sample from which a part is dropped; pictures are among `conditioning`, too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What predicts a branch: a network, how samples become a pack that is ready for it, and whether the network reads
    its estimate of x_0."""

    network: Network
    packed: Callable[[Sequence[Sample]], PackedBatch]
    reads_estimate: bool = False


class GuidedModel:
    """The network under the rules, for one list of samples.

    Args:
        whole: what predicts; `weaker`: for the branch of autoguidance.
        samples: S of them.
        rules: what is dropped, and the weight of each.
        combination: how the update is added.
        negatives: token states (n, D_text) in the place of captions that are dropped; None: no caption.
    """

    def __init__(
        self,
        whole: Prediction,
        samples: Sequence[Sample],
        rules: Sequence[AnyRule],
        combination: AnyCombination,
        *,
        weaker: Prediction | None = None,
        negatives: Sequence[Tensor | None] | None = None,
    ) -> None:
        self._rules, self._combination = rules, combination
        self._branches = [list(samples)]
        self._predictions = [whole]
        for rule in rules:
            branch = [without(sample, rule.drop) for sample in samples]
            if negatives is not None and "caption" in rule.drop:
                branch = [replace(one, text=text) for one, text in zip(branch, negatives, strict=True)]
            self._branches.append(branch)
            if isinstance(rule, AutoGuidance):
                if weaker is None:
                    raise ValueError(
                        "guidance: autoguidance needs a weaker model, which `reelpack sample` loads; take another "
                        "rule here"
                    )
                self._predictions.append(weaker)
            else:
                self._predictions.append(whole)
        self._packs: dict[tuple[int, ...], PackedBatch] = {}
        self._memory: dict[str, Tensor] = {}
        self._estimate: Tensor | None = None
        self._absent: Tensor | None = None

    def show(self, x_0: Tensor) -> None:
        """The estimate, (L, P), that all branches are shown from now on; before, there is none."""
        self._estimate = x_0

    def stand_in(self, tokens: Tensor) -> None:
        """What the model reads from now on where the caption is dropped, (S, n, D): `negatives` have n states each."""
        self._absent = tokens

    def __call__(
        self,
        x: Tensor,
        level: NoiseLevel,
        spread: Callable[[Tensor], Tensor],
        data_of: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        """The guided output at a level.

        Args:
            x: (L, P); a branch has its conditioning tokens clean in place of x's.
            level: of the S samples, on the CPU.
            spread: (S,) to (L, 1) on x's device.
            data_of: an output and x to the x_0 that it says, (L, P).

        Returns:
            (L, P) float32, with learned variances (L, 2 P): those of the first branch that counts, as in DiT's code.
        """
        by_segment = [coefficients([rule.weight_at(t) for rule in self._rules]) for t in level.time.tolist()]
        factors = torch.tensor(by_segment, dtype=torch.float64).T  # (branches, S)
        active = [i for i, factor in enumerate(factors) if factor.any()]
        outputs = self._outputs(active, x, level.timesteps.to(x.device))
        if len(active) == 1:
            return outputs[0]
        predictions, variances = zip(*(output.tensor_split([x.shape[1]], dim=1) for output in outputs), strict=True)
        *others, guided = predictions
        last = guided
        for i, prediction in zip(active, others, strict=False):
            guided = guided + spread(factors[i]) * (prediction - last)
        if active[0] == 0 and not self._combination.is_plain:
            guided = self._combined(guided, predictions[0], variances[0], x, data_of)
        return torch.cat([guided, variances[0]], dim=1)

    def _combined(
        self,
        guided: Tensor,
        output: Tensor,
        variance: Tensor,
        x: Tensor,
        data_of: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        """The sum of output and update, combined in another way: (L, P)."""
        batch = self._pack((0,), self._predictions[0])
        free = batch.loss_mask[:, None].to(x.dtype)  # (L, 1)
        counts = batch.segments.sum(free).clamp(min=1)  # (S, 1)

        def mean(values: Tensor) -> Tensor:
            sums = batch.segments.sum((values * free).mean(dim=1, keepdim=True))  # (S, 1)
            return batch.segments.gather(sums / counts)

        answer = Answer(
            output=output,
            update=guided - output,
            data=data_of(torch.cat([output, variance], dim=1), x),
            data_scale=data_of(torch.cat([torch.ones_like(output), variance], dim=1), torch.zeros_like(x))[:, :1],
            mean=mean,
            memory=self._memory,
        )
        return self._combination.combined(answer)

    def _outputs(self, active: Sequence[int], x: Tensor, timesteps: Tensor) -> list[Tensor]:
        """Of each active branch, float32; those of one network in one pack."""
        found: dict[int, Tensor] = {}
        for prediction in dict.fromkeys(self._predictions[i] for i in active):
            own = tuple(i for i in active if self._predictions[i] is prediction)
            batch = self._pack(own, prediction)
            inputs = torch.where(batch.loss_mask[:, None], x.repeat(len(own), 1), batch.tokens)  # (branches · L, P)
            if prediction.reads_estimate and self._estimate is not None:
                batch = shown(batch, self._estimate.repeat(len(own), 1))
            if self._absent is not None:
                batch = replace(batch, caption_tokens=self._in_place(self._absent, own, batch))
            outputs = prediction.network(inputs, timesteps.repeat(len(own)), batch).float()
            found |= zip(own, outputs.chunk(len(own)), strict=True)
        return [found[i] for i in active]

    def _in_place(self, absent: Tensor, own: Sequence[int], batch: PackedBatch) -> CaptionTokens | None:
        """Tokens (S, n, D) where a pack of these branches has those of dropped captions."""
        dropping = [n for n, i in enumerate(own) if i and "caption" in self._rules[i - 1].drop]
        if not dropping:
            return None
        rows = torch.arange(batch.text_segments.num_tokens).split(batch.text_segments.lengths)
        count = len(absent)
        places = torch.cat([place for n in dropping for place in rows[n * count : (n + 1) * count]])
        return CaptionTokens(rows=places.to(absent.device), tokens=absent.flatten(0, 1).repeat(len(dropping), 1))

    def _pack(self, own: tuple[int, ...], prediction: Prediction) -> PackedBatch:
        if own not in self._packs:
            self._packs[own] = prediction.packed([sample for i in own for sample in self._branches[i]])
        return self._packs[own]


def without(sample: Sample, drop: Sequence[Droppable]) -> Sample:
    """The sample without these parts."""
    if "frames" in drop:
        latents = {name: latent for name, latent in sample.conditioning.items() if name not in (LONE_FRAMES, SHOWN)}
        sample = replace(sample, conditioning=latents)
    return replace(sample, **{name: value for part in drop for name, value in WITHOUT[part].items()})
