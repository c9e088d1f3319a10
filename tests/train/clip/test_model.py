import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from curate.encoders.open_clip import OpenClipConfig
from tests.support.shapes import MODEL, small_open_clip
from tests.train.clip.conftest import ALONE, Made
from train.clip.config import TrainClipConfig
from train.clip.model import ClipModel, _blocks


def model_of(config: TrainClipConfig) -> ClipModel:
    return ClipModel(config, ALONE.device)


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three blocks in each tower, and a text tower of its own."""
    text = {**MODEL["text_cfg"], "layers": 3}  # type: ignore[dict-item]
    vision = {**MODEL["vision_cfg"], "layers": 3}  # type: ignore[dict-item]
    return small_open_clip(tmp_path_factory.mktemp("deep"), text_cfg=text, vision_cfg=vision, custom_text=True)


def trained(model: ClipModel) -> set[str]:
    return {name for name, weight in model.net.named_parameters() if weight.requires_grad}


def test_a_clips_vector_is_the_mean_direction_of_its_frames_as_the_encoder_has_it(made: Made) -> None:
    config = made.config()
    model = model_of(config)
    frames = [made.frames(config).read(clip) for clip in made.clips[:3]]
    encoder = OpenClipConfig(model=f"local-dir:{made.model}", device="cpu").build()
    encoder.setup()
    means = np.stack([encoder.embed_images(of_clip).mean(0) for of_clip in frames])
    expected = means / np.linalg.norm(means, axis=1, keepdims=True)
    with torch.no_grad():
        found = model.embed_clips([model.pixels(of_clip) for of_clip in frames])
        texts = model.embed_texts(["a red square", "a blue bar"])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(texts, encoder.embed_texts(["a red square", "a blue bar"]), atol=1e-5)


def test_lit_trains_the_text_tower_and_the_temperature(made: Made) -> None:
    names = trained(model_of(made.config()))
    assert "logit_scale" in names and "text_projection" in names
    assert not any(name.startswith("visual.") for name in names)
    full = trained(model_of(made.config(image="full")))
    assert full == {name for name, _ in model_of(made.config()).net.named_parameters()}


def test_the_last_blocks_train_with_what_follows_them(deep: Path, made: Made) -> None:
    init = {"model": f"local-dir:{deep}"}
    names = trained(model_of(made.config(init=init, image=1, text=2)))
    image = {name for name in names if name.startswith("visual.")}
    assert "visual.proj" in image and "visual.ln_post.weight" in image
    assert {name.split(".")[3] for name in image if ".resblocks." in name} == {"2"}
    assert image.isdisjoint({"visual.conv1.weight", "visual.positional_embedding", "visual.ln_pre.weight"})
    text = {name for name in names if name.startswith("text.")}
    assert {name.split(".")[3] for name in text if ".resblocks." in name} == {"1", "2"}
    assert "text.text_projection" in text and "text.token_embedding.weight" not in text


def test_blocks_of_several_stages_are_counted_through(made: Made, tmp_path: Path) -> None:
    vision = {"image_size": 32, "layers": [1, 2, 1, 1], "width": 8, "head_width": 16}
    folder = small_open_clip(tmp_path / "resnet", vision_cfg=vision)
    names = trained(model_of(made.config(init={"model": f"local-dir:{folder}"}, image=3)))
    stages = {name.split(".")[1] for name in names if name.startswith("visual.")}
    assert stages == {"layer2", "layer3", "layer4", "attnpool"}
    assert not any(name.startswith("visual.layer2.0.") for name in names)


def test_a_tower_without_known_blocks_is_told(made: Made) -> None:
    model = model_of(made.config())
    model.net.visual.transformer.resblocks = nn.Identity()
    assert not list(_blocks(model.net, "image")) and len(list(_blocks(model.net, "text"))) == 1


def test_more_blocks_than_there_are_is_told(made: Made) -> None:
    with pytest.raises(ValueError, match=r"train_clip\.image=7, and the image tower has 2 blocks; .*at most 2"):
        model_of(made.config(image=7))


def test_a_model_with_a_caption_decoder_is_refused_with_what_works(made: Made, tmp_path: Path) -> None:
    from curate.encoders import torchvision_cpu

    torchvision_cpu.repair()
    import open_clip
    from safetensors.torch import save_file

    text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1, "embed_cls": True}
    config = {
        "embed_dim": 16,
        "custom_text": True,
        "vision_cfg": {**MODEL["vision_cfg"], "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},  # type: ignore[dict-item]
        "text_cfg": {**text, "output_tokens": True},
        "multimodal_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    net = open_clip.CoCa(**{name: value for name, value in config.items() if name != "custom_text"})
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, tmp_path / "open_clip_model.safetensors")
    with pytest.raises(ValueError, match=r"is a CoCa, whose caption decoder .*such as ViT-B-32"):
        model_of(made.config(init={"model": f"local-dir:{tmp_path}"}))


def test_weights_that_are_not_the_models_are_told(made: Made, tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"open_clip cannot load it: .*checkpoint of `model` \(ViT-S-32\)"):
        model_of(made.config(init={"model": "ViT-S-32", "pretrained": str(tmp_path / "other.pt")}))


def test_what_a_pair_keeps_grows_with_what_trains(made: Made) -> None:
    lit, full = (model_of(made.config(image=image)) for image in ("locked", "full"))
    assert 0 < lit.activation_bytes(8) < full.activation_bytes(8) < full.activation_bytes(16)
    assert lit.state_bytes < full.state_bytes


def test_the_estimate_is_what_a_forward_pass_keeps(made: Made) -> None:
    model = model_of(made.config(image="full"))
    saved: dict[int, int] = {}
    weights = {weight.untyped_storage().data_ptr() for weight in model.net.parameters()}

    def note(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    frames = torch.zeros(4, 3, 32, 32)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        kept = (model.embed_clips([frames] * 8), model.embed_texts(["a red bar"] * 8))
    counted = sum(size for pointer, size in saved.items() if pointer not in weights)
    del kept
    assert 8 * model.activation_bytes(4) == pytest.approx(counted, rel=0.1)


def test_a_text_that_the_context_cuts_is_known(made: Made) -> None:
    model = model_of(made.config())
    assert not model.is_cut("a red square") and model.is_cut("a red square " * 20)


def test_the_temperature_stays_within_clips_bounds_or_the_checkpoints_own(made: Made, tmp_path: Path) -> None:
    config = made.config(init={"model": f"local-dir:{small_open_clip(tmp_path, init_logit_scale=5.0)}"})
    beyond = model_of(config)
    nn.init.constant_(beyond.net.logit_scale, 9.0)
    beyond.clip_scale()
    assert beyond.log_scale.item() == pytest.approx(5.0)
    model = model_of(made.config())
    for given, expected in ((9.0, np.log(100)), (-2.0, 0.0), (3.0, 3.0)):
        nn.init.constant_(model.net.logit_scale, given)
        model.clip_scale()
        assert model.log_scale.item() == pytest.approx(expected)
