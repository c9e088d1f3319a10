import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from curate.encoders.open_clip import OpenClipConfig, OpenClipEncoder
from curate.encoders.weights import MissingWeights
from tests.support.open_clip import TINY, write_tiny_siglip


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (3, 40, 56, 3), np.uint8)


def local(folder: Path, **settings: object) -> OpenClipEncoder:
    encoder = OpenClipConfig(model=f"local-dir:{folder}", device="cpu", **settings).build()  # type: ignore[arg-type]
    encoder.setup()
    return encoder


def test_it_computes_what_open_clip_does(tiny_open_clip: Path, images: np.ndarray) -> None:
    import open_clip

    name = f"local-dir:{tiny_open_clip}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    model.eval()
    encoder = local(tiny_open_clip, batch_size=2)
    texts = ["a rabbit", "the sky", "a page of text"]
    with torch.inference_mode():
        expected_images = model.encode_image(torch.stack([preprocess(Image.fromarray(image)) for image in images]))
        expected_texts = model.encode_text(open_clip.get_tokenizer(name)(texts))
    normalize = torch.nn.functional.normalize
    np.testing.assert_allclose(encoder.embed_images(images), normalize(expected_images, dim=-1), atol=1e-5)
    np.testing.assert_allclose(encoder.embed_texts(texts), normalize(expected_texts, dim=-1), atol=1e-5)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_checkpoint_file_with_a_models_name_is_the_same_as_the_folder(
    tiny_open_clip: Path, images: np.ndarray, tmp_path: Path, suffix: str
) -> None:
    import open_clip

    (tmp_path / "reelpack-tiny.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(tmp_path / "reelpack-tiny.json")
    state = load_file(tiny_open_clip / "open_clip_model.safetensors")
    checkpoint = tmp_path / f"tiny{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": state}, checkpoint)
    else:
        save_file(state, checkpoint)
    encoder = OpenClipConfig(model="reelpack-tiny", pretrained=str(checkpoint), device="cpu").build()
    encoder.setup()
    np.testing.assert_allclose(encoder.embed_images(images), local(tiny_open_clip).embed_images(images), atol=1e-6)


def test_low_precision_stays_near(tiny_open_clip: Path, images: np.ndarray) -> None:
    exact = local(tiny_open_clip).embed_images(images)
    rough = local(tiny_open_clip, precision="bf16").embed_images(images)
    assert (exact * rough).sum(1).min() > 0.99


def test_the_fingerprint_is_of_the_weights_not_of_their_place(tiny_open_clip: Path, tmp_path: Path) -> None:
    def fingerprint(folder: Path) -> str:
        return OpenClipConfig(model=f"local-dir:{folder}").build().fingerprint

    moved = tmp_path / "moved"
    shutil.copytree(tiny_open_clip, moved)
    assert fingerprint(moved) == fingerprint(tiny_open_clip)
    state = load_file(moved / "open_clip_model.safetensors")
    state["logit_scale"] += 1
    save_file(state, moved / "open_clip_model.safetensors")
    os.utime(moved / "open_clip_model.safetensors", ns=(1, 1))
    assert fingerprint(moved) != fingerprint(tiny_open_clip)


def test_hub_weights_are_fingerprinted_by_name_without_a_download() -> None:
    names = [("ViT-B-32", "openai"), ("ViT-B-32", "laion2b_s34b_b79k"), ("ViT-B-16", "openai")]
    configs = [OpenClipConfig(model=model, pretrained=tag) for model, tag in names]
    assert len({config.build().fingerprint for config in configs}) == 3


@pytest.mark.parametrize("settings", [{"pretrained": "/nowhere/vit.pt"}, {"model": "local-dir:/nowhere/vit"}])
def test_missing_local_weights_name_file_and_setting(settings: dict[str, str]) -> None:
    encoder = OpenClipConfig(**settings).build()  # type: ignore[arg-type]
    for action in (encoder.setup, lambda: encoder.fingerprint):
        with pytest.raises(MissingWeights, match=r"/nowhere/vit.*pretrained"):
            action()


def test_random_weights_cannot_be_asked_for(tiny_open_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="pretrained"):
        OpenClipConfig(model="ViT-B-32")
    shutil.copy(tiny_open_clip / "open_clip_config.json", tmp_path)
    with pytest.raises(ValueError, match="could not be loaded"):
        local(tmp_path)


def test_an_unknown_name_is_told_before_anything_is_loaded_with_those_that_there_are() -> None:
    for model, said in (
        ("ViT-B-32:no-such-tag", r"got pretrained 'no-such-tag'.*a tag of ViT-B-32 \(openai, laion400m_e31"),
        ("ViT-B-33:openai", r"got model 'ViT-B-33'.*the nearest are ViT-"),
        ("ViT-S-32:openai", r"a tag of ViT-S-32 \(it has none\)"),
    ):
        encoder = OpenClipConfig(model=model, device="cpu").build()
        for action in (encoder.setup, lambda encoder=encoder: encoder.fingerprint):
            with pytest.raises(ValueError, match=said):
                action()


def test_one_key_names_architecture_and_weights() -> None:
    config = OpenClipConfig(model="ViT-L-14:openai")
    assert (config.model, config.pretrained) == ("ViT-L-14", "openai")
    assert OpenClipConfig.model_validate(config.model_dump()) == config
    assert OpenClipConfig(model="ViT-L-14:/a/b.pt").pretrained == "/a/b.pt"
    with pytest.raises(ValidationError, match=r"names its weights; leave out `pretrained`"):
        OpenClipConfig(model="ViT-L-14:openai", pretrained="/a/b.pt")


@pytest.mark.parametrize(
    ("model", "is_forced"),
    [("ViT-L-14:openai", True), ("ViT-L-14-quickgelu:openai", False), ("ViT-L-14:laion2b_s32b_b82k", False),
     ("ViT-B-16:dfn2b", True), ("ViT-B-32-SigLIP2-256:webli", False), ("MobileCLIP2-S0:dfndr2b", False)],
)  # fmt: skip
def test_a_tag_that_was_trained_with_quick_gelu_gets_it(model: str, is_forced: bool) -> None:
    assert OpenClipConfig(model=model).build().as_trained == ({"force_quick_gelu": True} if is_forced else {})


def test_a_checkpoints_path_gets_the_preprocessing_of_its_architecture(tmp_path: Path) -> None:
    from open_clip.pretrained import get_pretrained_cfg

    (tmp_path / "a.pt").touch()
    for name, tag in (("ViT-B-32-SigLIP2-256", "webli"), ("MobileCLIP2-S0", "dfndr2b"), ("ViT-B-32", "openai")):
        found = OpenClipConfig(model=f"{name}:{tmp_path / 'a.pt'}").build().as_trained
        trained = get_pretrained_cfg(name, tag)
        assert found.get("image_mean", (0.48145466, 0.4578275, 0.40821073)) == tuple(trained["mean"])
        assert found.get("image_resize_mode", "shortest") == trained["resize_mode"]
    assert found == {}, "CLIP's own is open_clip's default: fingerprints stay as they were"


def test_the_manner_of_siglip_loads_from_a_folder(images: np.ndarray, tmp_path: Path) -> None:
    encoder = local(write_tiny_siglip(tmp_path))
    texts = encoder.embed_texts(["a dog on the beach", "a page of text"])
    for vectors in (encoder.embed_images(images), texts):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (texts[0] != texts[1]).any()
    assert encoder._model.logit_bias is not None
    assert (encoder.fits("dog " * 15), encoder.fits("dog " * 16)) == (True, False), "16 tokens, one of them the end"


def test_a_text_fits_if_its_last_token_is_read(tiny_open_clip: Path) -> None:
    encoder = local(tiny_open_clip)
    whole, cut = "dog " * 14, "dog " * 15  # and the two marks at the ends
    assert (encoder.fits(""), encoder.fits(whole), encoder.fits(cut)) == (True, True, False)
    assert (encoder.embed_texts([whole + "sky"]) == encoder.embed_texts([whole + "sea"])).all()


@pytest.mark.parametrize("wrong", ["another architecture", "no weights", "an array"])
def test_a_checkpoint_of_another_architecture_is_one_short_message(wrong: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    if wrong == "another architecture":
        torch.save({f"block.{number}.weight": torch.zeros(2, 2) for number in range(80)}, path)
    elif wrong == "no weights":
        path.write_text("words")
    else:
        path = tmp_path / "weights.npz"
        np.savez(path, kernel=np.zeros(2))
    encoder = OpenClipConfig(model="ViT-S-32", pretrained=str(path), device="cpu").build()
    with pytest.raises(ValueError, match="open_clip cannot load it") as raised:
        encoder.setup()
    assert len(str(raised.value)) < 600
    assert "\n" not in str(raised.value)
    assert "ViT-S-32" in str(raised.value)


def test_features_of_patches_are_of_the_whole_picture(tiny_open_clip: Path, images: np.ndarray) -> None:
    """Also of one that is no square: the model's own tokens before they are pooled, of the picture squashed."""
    import open_clip

    encoder = local(tiny_open_clip, batch_size=2)
    found = encoder.patch_features(images)
    assert found.shape == (3, 64, 2, 2) and found.dtype == np.float32
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tiny_open_clip}")
    tower = model.eval().visual
    tower.output_tokens = True
    mean, std = (torch.tensor(given).view(3, 1, 1) for given in (tower.image_mean, tower.image_std))
    squashed = np.stack(
        [np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC)) for image in images]
    )
    with torch.inference_mode():
        _, tokens = tower((torch.from_numpy(squashed).permute(0, 3, 1, 2) / 255 - mean) / std)  # (3, 4, 64)
    expected = tokens.transpose(1, 2).unflatten(2, (2, 2)).numpy()
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()  # PIL rounds
