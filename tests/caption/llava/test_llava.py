"""The embedded captioner's own code, on a small language model with random weights and the true architecture."""

import numpy as np
import pytest
import torch
import yaml

from caption.backends.base import CaptionRequest
from caption.backends.transformers_vlm import TransformersVlm, TransformersVlmConfig
from caption.finetune.base import Sample
from caption.finetune.config import CaptionerTrainConfig
from caption.finetune.loop import Run
from caption.llava.assemble import merge, to_storage_dtype
from caption.llava.corpus import Shot
from caption.llava.film import Film, contrastive, learner_of, save_deltas
from caption.llava.samples import Corpus
from caption.prompts import PLAIN_V1
from pipelines.config import find_file
from tests.support.small_llava import SIDE_PX, small_parts


def recipe(*changes: dict) -> CaptionerTrainConfig:
    """`--config reelpack_llava` with changed stages."""
    settings = yaml.safe_load(find_file("reelpack_llava").read_text())["train_captioner"]
    for stage, changed in zip(settings["stages"], changes, strict=False):
        stage |= changed
    return CaptionerTrainConfig.model_validate(settings)


def test_tokens_are_averages_over_the_parts_of_the_last_map():
    tower = small_parts().model.model.vision_tower
    pixels = torch.randn(2, 3, SIDE_PX * 2, SIDE_PX * 2)
    tower.config.patch_size = 64
    with torch.inference_mode():
        maps, pooled = tower.backbone(pixels), tower.pool(pixels)  # maps (2, 1280, 4, 4)
    quarters = [maps[..., y : y + 2, x : x + 2].mean((2, 3)) for y in (0, 2) for x in (0, 2)]
    expected = torch.stack([maps.mean((2, 3)), *quarters], 1)
    torch.testing.assert_close(pooled, expected, atol=1e-4, rtol=1e-4)


def test_checkpoint_gives_the_losses_of_training(tmp_path):
    """Trained deltas, merged, stored, and loaded by the generic backend: same prompt, same frames, same numbers."""
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (count, 48, 80, 3), np.uint8) for count in (1, 3)]
    texts = ["A rabbit.", "A bird sits on a branch."]
    parts = small_parts()
    tower = parts.model.model.vision_tower
    tower.channel_mean.normal_()
    tower.channel_std.uniform_(0.5, 2)
    tower.half().float()  # what is stored is float16
    tower.save_pretrained(tmp_path / "tower")
    for layer in (parts.model.model.multi_modal_projector.linear_1, parts.model.model.multi_modal_projector.linear_2):
        torch.nn.init.normal_(layer.weight, std=0.2)  # so that images weigh as much as words
    learner = learner_of(parts, recipe())
    for name, weight in learner.trained().items():
        if "lora_B" in name:  # zero at first: the test would not see them
            torch.nn.init.normal_(weight, std=0.3)
    samples = []
    for images, text in zip(frames, texts, strict=True):
        pixels = parts.processor.image_processor(list(images), return_tensors="pt")["pixel_values"]
        samples.append(Sample(images=tower.pool(pixels), prompt=PLAIN_V1.of("short").text(), answer=text))
    learner.train(())
    with torch.inference_mode():
        token_losses, rows = learner.losses(samples)
    expected = [token_losses[rows == row].mean().item() for row in range(2)]
    save_deltas(learner, tmp_path / "deltas")

    fresh = small_parts()
    fresh.model.model.vision_tower.load_state_dict(tower.state_dict())
    merged = merge(fresh, tmp_path / "deltas")
    to_storage_dtype(merged.model).save_pretrained(tmp_path / "checkpoint")
    merged.processor.save_pretrained(tmp_path / "checkpoint")
    vlm = TransformersVlm(TransformersVlmConfig(model=str(tmp_path / "checkpoint"), dtype="bfloat16", device="cpu"))
    vlm.setup()
    assert vlm.model.model.vision_tower.backbone.conv_stem.weight.dtype == torch.float32
    requests = [CaptionRequest(frames=f, prompt=PLAIN_V1.of("short").text(), max_tokens=1) for f in frames]
    assert vlm.losses(requests, texts) == pytest.approx(expected, abs=0.05)
    assert vlm.losses(requests[::-1], texts) != pytest.approx(expected, abs=0.05)


def test_recipe_makes_captions_depend_on_the_images(tmp_path):
    shots = [
        (Shot(start_frame=0, end_frame=48, short=("aaaa",), dense="aaaa aa"), torch.zeros(2, 5, 5, 1280).half()),
        (Shot(start_frame=48, end_frame=96, short=("zzzz",), dense="zzzz zz"), torch.zeros(2, 5, 5, 1280).half()),
    ]
    shots[0][1][..., :640] = 1
    shots[1][1][..., 640:] = 1
    config = recipe(
        {"steps": 20, "batch_size": 8},
        {"steps": 60, "batch_size": 4, "warmup": 0.3, "lr": {"projector": 1e-3, "lora": 5e-3}},
    )
    learner = learner_of(small_parts(), config)
    film = Film(Corpus(shots, [], video_share=1.0, num_frames=4), lambda level: PLAIN_V1.of(level).text())
    rows = Run(tmp_path, config, learner, film, contrastive=contrastive(learner)).train()
    losses = {stage: [row["loss"] for row in rows if row["stage"] == stage] for stage in ("alignment", "captions")}
    assert losses["alignment"][-1] < losses["alignment"][0] and np.mean(losses["captions"][-6:]) < 1.0
    prompt = PLAIN_V1.of("short").text()
    with torch.inference_mode():
        for (own, features), (other, _) in (shots, shots[::-1]):
            true, _ = learner.losses([Sample(images=features[0], prompt=prompt, answer=own.short[0])])
            wrong, _ = learner.losses([Sample(images=features[0], prompt=prompt, answer=other.short[0])])
            assert wrong.mean() > true.mean() + 1.0


def test_the_film_refuses_what_it_has_no_texts_for() -> None:
    film = Film(Corpus([], [], video_share=1.0, num_frames=4), lambda level: "")
    for changes in ({"tasks": {"human": 1}}, {"steps": None, "epochs": 1}):
        with pytest.raises(ValueError, match="tasks short and dense, and counts steps"):
            film.num_batches(recipe({}, changes).stages[1])
