"""What the embedded captioner is trained on and from: `TrainingData` of a film and stamps, and the model's parts.

The vision tower is frozen, so every image passes it once, before the training; a module that gives what is stored
takes its place.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from caption.finetune.base import Sample
from caption.finetune.config import CaptionerTrainConfig, StageConfig, Task
from caption.finetune.learner import Learner
from caption.llava.config import FilmConfig
from caption.llava.corpus import STAMPS_REMEDY, load_shots, load_stamps
from caption.llava.features import all_tokens, stamp_features, video_features
from caption.llava.parts import IMAGE_TOKEN, Parts, build_parts
from caption.llava.samples import Corpus
from curate.dataset.captions import CaptionLevel
from curate.encoders import weights
from curate.storage.publish import publish, remove_unfinished
from curate.storage.tensors import tensors_to_bytes

FEATURES = "features.pt"


class StoredTower(torch.nn.Module):
    """Takes the vision tower's place: (N, tokens, 1280) float32 as pooled, to tokens of the same shape."""

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pixel_values: torch.Tensor, **_: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        tokens = self.tower.standardize(pixel_values)
        return BaseModelOutputWithPooling(last_hidden_state=tokens, hidden_states=(tokens,))


class StoredEncoder:
    """`PromptEncoder` of samples whose images are pooled features, (T, tokens, 1280); prompts as the processor makes
    them."""

    def __init__(self, parts: Parts) -> None:
        self._processor = parts.processor
        self._num_tokens = parts.model.model.vision_tower.config.num_tokens
        self._ids: dict[tuple[str, int], list[int]] = {}

    def __call__(self, samples: Sequence[Sample]) -> Mapping[str, Any]:
        prompts = [self._prompt_ids(sample.prompt, len(sample.images)) for sample in samples]
        width = max(map(len, prompts))
        ids = torch.full((len(samples), width), self._processor.tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        features = torch.cat([sample.images.float() for sample in samples])
        return {"input_ids": ids, "attention_mask": mask, "pixel_values": features}

    def _prompt_ids(self, prompt: str, num_images: int) -> list[int]:
        key = (prompt, num_images)
        if key not in self._ids:
            content = [*[{"type": "image"}] * num_images, {"type": "text", "text": prompt}]
            text = self._processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
            text = text.replace(IMAGE_TOKEN, IMAGE_TOKEN * self._num_tokens)
            self._ids[key] = self._processor.tokenizer(text, add_special_tokens=False).input_ids
        return self._ids[key]


class Film:
    """`TrainingData`: random samples of shots and stamps, without passes. It holds out nothing: the demo's excerpts
    are no part of it, and `caption.llava.evaluate` measures on them.

    Args:
        corpus: all features, in memory.
        prompt: of a level.
    """

    def __init__(self, corpus: Corpus, prompt: Callable[[CaptionLevel], str]) -> None:
        self._corpus, self._prompt = corpus, prompt

    def num_batches(self, stage: StageConfig) -> int:
        """See `TrainingData`.

        Raises:
            ValueError: the stage counts passes, or asks for what the film has no texts for.
        """
        if stage.steps is None or not stage.tasks.keys() <= {"short", "dense"}:
            raise ValueError(f"stage {stage.name}: data.kind=film has the tasks short and dense, and counts steps")
        return stage.steps

    def batches(self, stage: StageConfig, number: int, seed: int) -> Iterator[Sequence[Sample]]:
        """See `TrainingData`. A batch has one task: short captions are not padded to the length of dense ones."""
        rng = np.random.default_rng((seed, number))
        dense_share = stage.tasks.get("dense", 0.0) / sum(stage.tasks.values())
        while True:
            is_dense = dense_share == 1 or (dense_share > 0 and rng.random() < dense_share)
            level: CaptionLevel = "dense" if is_dense else "short"
            yield [
                Sample(images=found.features, prompt=self._prompt(level), answer=found.caption)
                for found in self._corpus.batch(rng, stage.batch_size, level)
            ]

    def load(self, batch: Sequence[Sample]) -> list[Sample]:
        return list(batch)

    def held_out(self, task: Task, limit: int) -> Sequence[Sample]:
        return ()


def load_film(config: CaptionerTrainConfig, out: Path, prompt: Callable[[CaptionLevel], str]) -> tuple[Learner, Film]:
    """The model of untrained parts, and what it is trained on. Features that are in `out` and of the same shots are
    used again.

    Raises:
        ValueError: no folder of stamps.
        MissingWeights: a part of the model, or the video, is not in the cache.
    """
    assert isinstance(config.data, FilmConfig)
    if config.data.stamps is None:
        raise ValueError(f"train_captioner.data.stamps: {STAMPS_REMEDY}, and set it to FOLDER")
    remove_unfinished(str(out), {FEATURES})
    torch.manual_seed(config.seed)
    parts = build_parts()
    corpus = _corpus(parts, config.data, config.data.stamps, out / FEATURES)
    return learner_of(parts, config), Film(corpus, prompt)


def learner_of(parts: Parts, config: CaptionerTrainConfig, dtype: torch.dtype = torch.bfloat16) -> Learner:
    """The parts as a model in training: the language model in `dtype`, stored features in the tower's place."""
    model = parts.model
    encode = StoredEncoder(parts)
    model.model.vision_tower = StoredTower(model.model.vision_tower)
    model.model.language_model.to(dtype)
    model.lm_head.to(dtype)
    return Learner(model, parts.processor.tokenizer, encode, dtype, config)


def contrastive(learner: Learner) -> Callable[[Learner, Sequence[Sample]], torch.Tensor]:
    """The objective `contrastive`: a clip's tokens near its caption's words in the language model's embedding space.

    Departure from LLaVA's first stage, which trains the projector through the language model: InfoNCE against mean
    word embeddings needs no pass of the language model, and takes seconds.
    """
    inner = learner.model.model
    embed = inner.language_model.get_input_embeddings()
    words_norm = embed.weight.detach().float().norm(dim=1).mean()

    def loss(learner: Learner, samples: Sequence[Sample]) -> torch.Tensor:
        ids = [learner.tokenizer(sample.answer, add_special_tokens=False).input_ids for sample in samples]
        target = torch.stack([embed(torch.tensor(row)).float().mean(0) for row in ids])
        target = F.normalize(target - target.mean(0), dim=1)
        pooled = torch.stack([sample.images.float().mean(0) for sample in samples])
        tokens = inner.multi_modal_projector(inner.vision_tower.tower.standardize(pooled))  # (N, tokens, width)
        clip = F.normalize(tokens.mean(1), dim=1)
        same = torch.tensor([[a.answer == b.answer for b in samples] for a in samples])
        positive = same.float() / same.sum(1, keepdim=True)
        similarity = clip @ target.T / 0.07
        contrast = F.cross_entropy(similarity, positive) + F.cross_entropy(similarity.T, positive.T)
        size = (tokens.norm(dim=-1) / words_norm - 1).square().mean()  # as long as the embeddings of words are
        return contrast / 2 + size

    return loss


def save_deltas(learner: Learner, folder: Path) -> Path:
    """Projector with the channel statistics, and the LoRA adapter, in float16: what `assemble` reads."""
    from peft import get_peft_model_state_dict

    inner = learner.model.model
    (folder / "lora").mkdir(parents=True, exist_ok=True)
    state = {f"projector.{name}": value.half() for name, value in inner.multi_modal_projector.state_dict().items()}
    state |= {name: getattr(inner.vision_tower.tower, name).half() for name in ("channel_mean", "channel_std")}
    with publish(str(folder / "projector.safetensors")) as file:
        file.write(tensors_to_bytes(state))
    adapter = {name: value.half() for name, value in get_peft_model_state_dict(inner.language_model).items()}
    with publish(str(folder / "lora" / "adapter_model.safetensors")) as file:
        file.write(tensors_to_bytes(adapter))
    lora = inner.language_model.peft_config["default"]
    lora.base_model_name_or_path = None  # the path of this machine's cache
    lora.target_modules = sorted(lora.target_modules)  # a set's order changes from run to run
    lora.save_pretrained(folder / "lora")
    return folder


def _corpus(parts: Parts, config: FilmConfig, stamps: Path, cache: Path) -> Corpus:
    """Features of everything, and the tower's channel statistics set from them."""
    shots, images = load_shots(), load_stamps(stamps)
    video = config.video or weights.resolve("bbb-film")
    tower, image_processor = parts.model.model.vision_tower, parts.processor.image_processor
    ranges = [(shot.start_frame, shot.end_frame, shot.has_sides) for shot in shots]
    paths = [str(stamp.path.relative_to(stamps)) for stamp in images]
    stored = torch.load(cache) if cache.exists() else {}
    if stored.get("ranges") != ranges or "video" not in stored:
        stored |= {"ranges": ranges, "video": video_features(tower, image_processor, video, shots)}
        _store(stored, cache)
    if stored.get("paths") != paths:
        stored |= {"paths": paths, "stamps": stamp_features(tower, image_processor, images)}
        _store(stored, cache)
    tokens = all_tokens([*stored["video"], *(features for features, _ in stored["stamps"])])
    tower.channel_mean.copy_(tokens.mean(0).half())
    tower.channel_std.copy_((tokens.std(0) + 1e-3).half())
    return Corpus(
        list(zip(shots, stored["video"], strict=True)),
        [(stamp, features, names) for stamp, (features, names) in zip(images, stored["stamps"], strict=True)],
        video_share=config.video_share,
        num_frames=config.num_frames,
    )


def _store(features: dict[str, Any], cache: Path) -> None:
    with publish(str(cache)) as file:
        torch.save(features, file)
