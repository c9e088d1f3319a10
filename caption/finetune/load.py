"""A checkpoint as a `Learner`, and the trained model as a checkpoint again."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from caption.backends.base import UnusableModel
from caption.backends.checkpoint import load_checkpoint
from caption.backends.embedded import NAME
from caption.finetune.base import Sample
from caption.finetune.config import CaptionerTrainConfig
from caption.finetune.learner import Learner
from curate.encoders.hub import resolve_commit

WEIGHT_FILES = (".safetensors", ".bin", ".index.json", ".pt", ".pth", ".gguf")
WRITTEN = frozenset({"config.json", "generation_config.json"})
"""Files of a checkpoint that the model writes itself."""
COPIED = frozenset({".json", ".jinja", ".txt", ".model"})


class ProcessorEncoder:
    """`PromptEncoder` by a model's processor and chat template; images in the dtype that the model computes in."""

    def __init__(self, processor: Any, dtype: torch.dtype) -> None:
        from caption.backends.processor import control_tokens  # of transformers: only once torchvision is repaired

        self._processor, self._dtype = processor, dtype
        self._control = control_tokens(processor)

    def __call__(self, samples: Sequence[Sample]) -> Mapping[str, Any]:
        from caption.backends.processor import conversation

        is_plain = not any(token in sample.prompt for sample in samples for token in self._control)
        inputs = self._processor.apply_chat_template(
            [conversation(sample.images, sample.prompt) for sample in samples],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            sanitize_control_tokens=not is_plain,  # where needed alone: Idefics3's processor cannot
            processor_kwargs={"padding": True},
        )
        as_floats: Mapping[str, Any] = inputs.to(dtype=self._dtype)
        return as_floats


def resolved_model(config: CaptionerTrainConfig) -> CaptionerTrainConfig:
    """The settings with the embedded captioner's folder for its name, and the commit that a hub id means now.

    Raises:
        MissingWeights: the embedded captioner is not assembled.
        ValueError: neither the hub nor its cache knows the model.
    """
    if config.model == NAME:
        from caption.llava.assemble import resolve

        return config.model_copy(update={"model": str(resolve())})
    folder = Path(config.model).expanduser()
    if folder.is_dir():
        return config.model_copy(update={"model": str(folder)})
    commit = resolve_commit(config.model, config.revision, "train_captioner.model")
    return config.model_copy(update={"revision": commit})


def load_learner(config: CaptionerTrainConfig) -> Learner:
    """The model of resolved settings.

    Raises:
        ValueError: it cannot be loaded, or has another shape than LLaVA's.
    """
    try:
        loaded = load_checkpoint(
            config.model,
            revision=config.revision or "main",
            dtype=config.dtype,
            device=config.device,
            trust_remote_code=False,
        )
    except UnusableModel as error:
        raise ValueError(f"train_captioner.model={config.model}: {error}") from error
    torch.manual_seed(config.seed)  # new LoRA weights
    encode = ProcessorEncoder(loaded.processor, loaded.dtype)
    return Learner(loaded.model, loaded.processor.tokenizer, encode, loaded.dtype, config)


def export(learner: Learner, config: CaptionerTrainConfig, folder: Path) -> Path:
    """Write the trained model, LoRA merged, as a folder that transformers loads; it appears by one rename.

    The learner's model is merged by this, and cannot train any more.
    """
    from transformers.utils import cached_file

    learner.merge()
    source = Path(str(cached_file(config.model, "config.json", revision=config.revision))).parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    for leftover in folder.parent.glob(f".{folder.name}.tmp-*"):  # of a killed run
        shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.tmp-") as temporary:
        staged = Path(temporary) / "staged"
        learner.model.save_pretrained(staged)
        for file in sorted(source.iterdir()):  # the processor as it was published, and not as this version loads it
            if file.suffix in COPIED and file.name not in WRITTEN and not file.name.endswith(WEIGHT_FILES):
                shutil.copyfile(file, staged / file.name)
        staged.rename(folder)
    return folder
