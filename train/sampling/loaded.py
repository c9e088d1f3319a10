"""A run in memory: its model, the weaker one of autoguidance, and its text encoder, each loaded once."""

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from curate.device import pick_device
from train.finetune.apply import apply_updates
from train.finetune.base import fingerprint
from train.model.base import Denoiser
from train.run.config import TrainConfig
from train.run.folder import RunRecord, checkpoint_steps, chosen_step, load_model, read_run, run_folder
from train.sampling.config import SampleConfig
from train.sampling.guidance.autoguidance import AutoGuidance

if TYPE_CHECKING:
    from curate.encoders.text import TextEncoder

logger = logging.getLogger(__name__)


class LoadedRun:
    """A run in memory: it draws any number of times.

    Args:
        run: directory of a training run.
        config: which checkpoint, which weights, which updates are added, and the device.

    Raises:
        ValueError: no trained run, no such checkpoint, or updates of another model.
    """

    def __init__(self, run: str | Path, config: SampleConfig) -> None:
        self.run = run
        folder = run_folder(run)
        read_run(folder)  # says first if there is none
        self.step = chosen_step(folder, config.step)
        self.name = folder.name
        model, self.config, self.record = load_model(folder, weights=config.weights, step=self.step)
        if config.lora:
            base = self.record.base or {"sha256": fingerprint(sorted(model.state_dict().items()))}
            apply_updates(model, config.lora, base["sha256"])
        self.device = pick_device(config.device, setting="sample.device")
        self.model = model.to(self.device)
        self._weaker: tuple[AutoGuidance, Denoiser] | None = None

    @cached_property
    def text_encoder(self) -> "TextEncoder":
        return load_text_encoder(self.record)

    def weaker(self, config: SampleConfig) -> Denoiser | None:
        """The weaker model of autoguidance, where there is such a rule; the last one stays loaded."""
        if config.weaker is None:
            return None
        if self._weaker is None or self._weaker[0] != config.weaker:
            model = _weaker(self.run, config.weaker, config, self.config, self.record)
            self._weaker = config.weaker, model.to(self.device)
        return self._weaker[1]


def _weaker(
    run: str | Path, rule: AutoGuidance, config: SampleConfig, own: TrainConfig, record: RunRecord
) -> Denoiser:
    """The weaker model of autoguidance.

    Raises:
        ValueError: it is the model itself, or was trained on other latents, text embeddings, patches or objective.
    """
    folder, step = run_folder(rule.run or run), rule.step
    if rule.run is None and step is None:
        steps = checkpoint_steps(folder)
        if len(steps) < 2:
            raise ValueError(
                f"sample.guidance: autoguidance needs an earlier checkpoint, and {folder} has one alone; set `run` to "
                "that of a smaller model, or keep earlier ones (train.checkpoint.keep_every)"
            )
        step = steps[0]
    model, other, its_record = load_model(folder, weights=config.weights, step=step)
    pairs = {
        "latents": (record.latents["fingerprint"], its_record.latents["fingerprint"]),
        "text embeddings": (record.text["fingerprint"], its_record.text["fingerprint"]),
        "train.model.patch": (own.model.patch, other.model.patch),
        "train.objective": (own.objective, other.objective),
    }
    for name, (ours, theirs) in pairs.items():
        if ours != theirs:
            raise ValueError(
                f"sample.guidance: the weaker model of {folder} has {name} {theirs}, and {run} has {ours}; expected "
                "the same"
            )
    return model


def load_text_encoder(record: RunRecord) -> "TextEncoder":
    """The encoder that embedded the training captions.

    Raises:
        ValueError: the encoder found here is another one.
    """
    from curate.encoders.text import TextEncoder
    from curate.encoders.text_config import TextEncoderConfig

    encoder = TextEncoder(TextEncoderConfig.model_validate(record.text["config"]))
    if encoder.fingerprint != record.text["encoder_fingerprint"]:
        raise ValueError(
            f"text encoder {record.text['encoder']}: got fingerprint {encoder.fingerprint}, the run was trained with "
            f"{record.text['encoder_fingerprint']}; fetch the weights it was trained with"
        )
    encoder.setup()
    return encoder


def embed_prompts(prompts: Sequence[str], encoder: "TextEncoder") -> list[Tensor]:
    """Token states (n, D_text) of each prompt."""
    limit = encoder.config.max_tokens
    for prompt, count in zip(prompts, encoder.count_tokens(prompts), strict=True):
        if count > limit:
            logger.warning("prompt %r: cut off at %d of %d tokens (the run's text.max_tokens)", prompt, limit, count)
    return [torch.from_numpy(states).float() for states in encoder.encode(list(prompts))]
