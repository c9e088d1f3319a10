"""Is the text used? Training clips under their own caption and, with the same noise, under another clip's."""

import numpy as np
from torch import nn

from train.data.manifest import Manifest
from train.data.reference import reference_prompts
from train.evaluate.base import AveragedWeights, Evaluation, EvaluationContext
from train.evaluate.config import CaptionLossConfig
from train.evaluate.fixed_noise import FixedNoiseLoss


class CaptionLoss:
    """`caption_loss_true` and `caption_loss_shuffled`; nothing without two captions."""

    def __init__(self, config: CaptionLossConfig, context: EvaluationContext) -> None:
        self.config, self.manifest = config, context.train
        self.fixed = FixedNoiseLoss(config.timesteps, context)

    def evaluate(self, model: nn.Module, average: AveragedWeights, step: int) -> Evaluation:
        donors = caption_donors(self.manifest, self.config.max_clips)
        if not donors:
            return Evaluation()
        rows, others = list(donors), list(donors.values())
        true, shuffled = self.fixed.losses(model, self.manifest, rows, [rows, others]).mean(-1)
        metrics = {
            "caption_loss_true": float(true.mean()),
            "caption_loss_shuffled": float(shuffled.mean()),
            "caption_clips": len(donors),
            "caption_clips_where_true_is_lower": int((true < shuffled).sum()),
        }
        return Evaluation(metrics=metrics)


def caption_donors(manifest: Manifest, max_clips: int) -> dict[int, int]:
    """For each row that has an embedded caption, the next such row (cyclically) whose caption reads differently."""
    order = np.flatnonzero(manifest.table["text_shard"].is_valid())[:max_clips].tolist()
    captions = dict(zip(order, reference_prompts(manifest, order), strict=True))
    donors = {}
    for position, row in enumerate(order):
        others = order[position + 1 :] + order[:position]
        donor = next((other for other in others if captions[other] != captions[row]), None)
        if donor is not None:
            donors[row] = donor
    return donors
