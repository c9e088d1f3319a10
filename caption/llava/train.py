"""The recipe of the embedded captioner: `reelpack train-captioner --out FOLDER --stamps FOLDER`.

LLaVA's two stages (Liu et al. 2023, arXiv:2304.08485, section 4.2) at a small scale, vision tower frozen:

0. alignment: the projector alone learns to put a clip's tokens near its caption's words in the language model's
   embedding space. Departure from the paper, which trains it through the language model: contrastive (InfoNCE) against
   mean word embeddings, which needs no pass of the language model and takes seconds;
1. captioning: projector and LoRA on every linear layer of the language model (Hu et al. 2021, arXiv:2106.09685),
   next-token loss on the caption's tokens, with the prompts and the several frames that the captioner uses.
"""

import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch.nn import functional as F

from caption.llava.corpus import STAMPS_REMEDY, load_shots, load_stamps
from caption.llava.features import all_tokens, stamp_features, video_features
from caption.llava.parts import IMAGE_TOKEN, Parts, build_parts
from caption.llava.samples import Corpus, Sample
from caption.prompts import PLAIN_V1
from curate.dataset.captions import CaptionLevel
from curate.encoders import weights
from curate.storage.lease import hold
from curate.storage.publish import publish, remove_unfinished
from curate.storage.tensors import tensors_to_bytes

LORA_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
MAX_CAPTION_TOKENS = 96

log = logging.getLogger(__name__)


class CaptionerTrainConfig(BaseModel):
    """How the embedded captioner is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(0, description="of sampling and initialization")
    video_share: float = Field(0.75, ge=0, le=1, description="share of the samples that are shots of the video")
    dense_share: float = Field(0.4, ge=0, le=1, description="share of the batches with the dense prompt")
    num_frames: int = Field(4, ge=1, description="frames of most video samples, as the captioner samples them")
    alignment_steps: int = Field(300, ge=0, description="steps of stage 0")
    alignment_batch: int = Field(64, ge=2, description="clips per step of stage 0")
    steps: int = Field(240, ge=1, description="steps of stage 1")
    batch_size: int = Field(8, ge=1, description="clips per step of stage 1")
    projector_lr: float = Field(1e-3, gt=0, description="peak learning rate of the projector")
    lora_lr: float = Field(5e-4, gt=0, description="peak learning rate of the LoRA weights")
    lora_rank: int = Field(8, ge=1, description="rank of the LoRA updates")
    warmup_steps: int = Field(20, ge=0, description="linear warm-up of stage 1, then cosine to zero")


class Captioner:
    """The model in training: what is frozen in bfloat16, what is trained in float32."""

    def __init__(self, parts: Parts, config: CaptionerTrainConfig) -> None:
        from peft import LoraConfig, get_peft_model

        self.tokenizer, self._processor = parts.processor.tokenizer, parts.processor
        self.tower = parts.model.model.vision_tower
        self.projector = parts.model.model.multi_modal_projector.train()
        self.lm_head = parts.model.lm_head.to(torch.bfloat16).requires_grad_(False)
        language_model = parts.model.model.language_model.to(torch.bfloat16)
        lora = LoraConfig(r=config.lora_rank, lora_alpha=2 * config.lora_rank, lora_dropout=0.05)
        lora.target_modules = set(LORA_LAYERS)
        self.language_model = get_peft_model(language_model, lora).train()
        self._prompts: dict[tuple[CaptionLevel, int], list[int]] = {}

    def embed(self, token_ids: torch.Tensor) -> torch.Tensor:
        return self.language_model.get_input_embeddings()(token_ids)

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """(..., 1280) as pooled to (..., 576)."""
        return self.projector(self.tower.standardize(features.float()))

    def prompt_ids(self, kind: CaptionLevel, num_images: int) -> list[int]:
        """Token ids of everything before the caption, as the processor makes them."""
        key = (kind, num_images)
        if key not in self._prompts:
            content = [{"type": "image"}] * num_images + [{"type": "text", "text": PLAIN_V1.of(kind).text()}]
            text = self._processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
            text = text.replace(IMAGE_TOKEN, IMAGE_TOKEN * self.tower.config.num_tokens)
            self._prompts[key] = self.tokenizer(text, add_special_tokens=False).input_ids
        return self._prompts[key]

    def losses(self, samples: list[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
        """Next-token loss of every caption token, and the row of `samples` it belongs to."""
        prompts = [self.prompt_ids(sample.kind, len(sample.features)) for sample in samples]
        answers = [
            [*self.tokenizer(sample.caption, add_special_tokens=False).input_ids[:MAX_CAPTION_TOKENS],
             self.tokenizer.eos_token_id]
            for sample in samples
        ]  # fmt: skip
        longest = max(len(prompt) + len(answer) for prompt, answer in zip(prompts, answers, strict=True))
        ids = torch.full((len(samples), longest), self.tokenizer.pad_token_id)
        mask, is_answer = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
        for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            end = len(prompt) + len(answer)
            ids[row, :end] = torch.tensor(prompt + answer)
            mask[row, :end] = 1
            is_answer[row, len(prompt) : end] = True
        visual = self.project(torch.cat([sample.features.flatten(0, 1) for sample in samples]))
        is_image = ids == self._processor.image_token_id
        embeddings = self.embed(ids.where(~is_image, 0)).masked_scatter(is_image[..., None], visual.to(torch.bfloat16))
        with torch.autocast("cpu", torch.bfloat16):
            hidden = self.language_model(inputs_embeds=embeddings, attention_mask=mask).last_hidden_state
            logits = self.lm_head(hidden[:, :-1][is_answer[:, 1:]])  # only where a caption token comes next
        rows = torch.arange(len(samples))[:, None].expand_as(ids)[is_answer]
        return F.cross_entropy(logits.float(), ids[is_answer], reduction="none"), rows

    def save(self, folder: Path) -> None:
        """Projector with the channel statistics, and the LoRA adapter, in float16."""
        from peft import get_peft_model_state_dict

        (folder / "lora").mkdir(parents=True, exist_ok=True)
        state = {f"projector.{name}": value.half() for name, value in self.projector.state_dict().items()}
        state |= {name: getattr(self.tower, name).half() for name in ("channel_mean", "channel_std")}
        with publish(str(folder / "projector.safetensors")) as file:
            file.write(tensors_to_bytes(state))
        adapter = {name: value.half() for name, value in get_peft_model_state_dict(self.language_model).items()}
        with publish(str(folder / "lora" / "adapter_model.safetensors")) as file:
            file.write(tensors_to_bytes(adapter))
        lora = self.language_model.peft_config["default"]
        lora.base_model_name_or_path = None  # the path of this machine's cache
        lora.target_modules = sorted(lora.target_modules)  # a set's order changes from run to run
        lora.save_pretrained(folder / "lora")


def train(
    out: Path, stamps: Path | None, *, video: Path | None = None, config: CaptionerTrainConfig | None = None
) -> dict[str, float]:
    """Run the recipe; leaves `weights/` (what `assemble` reads) and `features.pt` in `out`.

    Args:
        out: folder; features that are there already are used again if they are of the same shots.
        stamps: unpacked Debian package tuxpaint-stamps-default (`load_stamps` says how to get it).
        video: Big Buck Bunny, 24 fps; None takes the asset "bbb-film" of the weights cache.
        config: None is the recipe of the committed weights.

    Returns:
        Seconds and last losses, for the model card.

    Raises:
        ValueError: no folder of stamps, or another process trains in `out`.
        MissingWeights: a part of the model, or the video, is not in the cache.
    """
    config = config or CaptionerTrainConfig()
    if stamps is None:
        raise ValueError(f"the recipe needs stamps: {STAMPS_REMEDY} and give FOLDER")
    with hold(out, "train"):
        return _train(out, stamps, video, config)


def _train(out: Path, stamps: Path, video: Path | None, config: CaptionerTrainConfig) -> dict[str, float]:
    remove_unfinished(str(out), {"features.pt"})
    torch.manual_seed(config.seed)
    start = time.monotonic()
    parts = build_parts()
    corpus = _corpus(parts, out / "features.pt", video or weights.resolve("bbb-film"), stamps, config)
    features_s = time.monotonic() - start
    captioner = Captioner(parts, config)
    aligned = _align(captioner, corpus, config)
    loss = _learn_captions(captioner, corpus, config)
    captioner.save(out / "weights")
    return {
        "features_s": features_s,
        "training_s": time.monotonic() - start - features_s,
        "alignment_loss": aligned,
        "caption_loss": loss,
    }


def _corpus(parts: Parts, cache: Path, video: Path, stamps: Path, config: CaptionerTrainConfig) -> Corpus:
    """Features of everything, and the tower's channel statistics set from them."""
    shots, images = load_shots(), load_stamps(stamps)
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


def _align(captioner: Captioner, corpus: Corpus, config: CaptionerTrainConfig) -> float:
    """Stage 0. InfoNCE between the clips and the mean word embeddings of their captions; returns the last loss."""
    rng = np.random.default_rng((config.seed, 0))
    optimizer = torch.optim.AdamW(captioner.projector.parameters(), lr=config.projector_lr, weight_decay=0.01)
    words_norm = captioner.language_model.get_input_embeddings().weight.float().norm(dim=1).mean()
    loss = torch.zeros(())
    for step in range(config.alignment_steps):
        samples = corpus.batch(rng, config.alignment_batch, "short")
        ids = [captioner.tokenizer(sample.caption, add_special_tokens=False).input_ids for sample in samples]
        target = torch.stack([captioner.embed(torch.tensor(row)).float().mean(0) for row in ids])
        target = F.normalize(target - target.mean(0), dim=1)
        tokens = captioner.project(torch.stack([sample.features.float().mean(0) for sample in samples]))
        clip = F.normalize(tokens.mean(1), dim=1)
        same = torch.tensor([[a.caption == b.caption for b in samples] for a in samples])
        positive = same.float() / same.sum(1, keepdim=True)
        similarity = clip @ target.T / 0.07
        contrast = F.cross_entropy(similarity, positive) + F.cross_entropy(similarity.T, positive.T)
        size = (tokens.norm(dim=-1) / words_norm - 1).square().mean()  # as long as the embeddings of words are
        loss = contrast / 2 + size
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            log.info("alignment step %d: loss %.3f", step, loss.item())
    return loss.item()


def _learn_captions(captioner: Captioner, corpus: Corpus, config: CaptionerTrainConfig) -> float:
    """Stage 1; returns the mean loss of the last tenth of the steps."""
    lora = [weight for weight in captioner.language_model.parameters() if weight.requires_grad]
    projector = list(captioner.projector.parameters())
    optimizer = torch.optim.AdamW(
        [{"params": projector, "lr": config.projector_lr}, {"params": lora, "lr": config.lora_lr}], weight_decay=0.01
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _lr_factor(step, config))
    history: list[float] = []
    start = time.monotonic()
    for step, samples in enumerate(_batches(corpus, config)):
        token_losses, _ = captioner.losses(samples)
        loss = token_losses.mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(projector + lora, 1.0)
        optimizer.step()
        schedule.step()
        history.append(loss.item())
        if step % 20 == 0:
            rate = (step + 1) * config.batch_size / (time.monotonic() - start)
            log.info("caption step %d: loss %.3f, %.1f samples/s", step, np.mean(history[-20:]), rate)
    return float(np.mean(history[-max(1, config.steps // 10) :]))


def _batches(corpus: Corpus, config: CaptionerTrainConfig) -> Iterator[list[Sample]]:
    """Each batch has one kind: short captions are not padded to the length of dense ones."""
    rng = np.random.default_rng((config.seed, 1))
    for _ in range(config.steps):
        yield corpus.batch(rng, config.batch_size, "dense" if rng.random() < config.dense_share else "short")


def _lr_factor(step: int, config: CaptionerTrainConfig) -> float:
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)))
