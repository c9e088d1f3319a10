import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from curate.encoders import weights
from curate.encoders.open_clip import OpenClipConfig, OpenClipEncoder
from tests.support.shapes import small_open_clip
from tests.train.clip.conftest import ALONE, Made
from train.clip.export import export
from train.clip.model import ClipModel


@pytest.fixture(scope="module")
def embedded_weights() -> None:
    weights.fetch(["minilm-l6-v2"])


def encoder_of(folder: Path) -> OpenClipEncoder:
    encoder = OpenClipConfig(model=f"local-dir:{folder}", device="cpu").build()
    encoder.setup()
    return encoder


def changed(made: Made, **settings: object) -> ClipModel:
    model = ClipModel(made.config(**settings), ALONE.device)
    with torch.no_grad():
        for weight in model.net.parameters():
            weight.add_(0.01)
    return model


@pytest.mark.parametrize("loss", ["info_nce", "sigmoid"])
def test_the_folder_gives_the_trained_models_vectors(made: Made, tmp_path: Path, loss: str) -> None:
    model = changed(made, loss=loss)
    encoder = encoder_of(export(model, tmp_path / "model", "# card"))
    image, texts = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8), ["a red bar", "a blue bar"]
    with torch.no_grad():
        np.testing.assert_allclose(
            encoder.embed_images([image]), model.embed_clips([model.pixels([image])]), atol=1e-5
        )
        np.testing.assert_allclose(encoder.embed_texts(texts), model.embed_texts(texts), atol=1e-5)
    assert encoder.fingerprint != OpenClipConfig(model=f"local-dir:{made.model}").build().fingerprint
    assert (tmp_path / "model" / "README.md").read_text() == "# card"


def test_preprocessing_and_bias_are_in_the_folder(made: Made, tmp_path: Path) -> None:
    model = changed(made, loss="sigmoid")
    folder = export(model, tmp_path / "model", "")
    assert json.loads((folder / "open_clip_config.json").read_text())["preprocess_cfg"]["mean"] == [0.5] * 3
    net, *_ = OpenClipConfig(model=f"local-dir:{folder}", device="cpu").build().load()
    assert net.logit_bias.item() == pytest.approx(model.net.logit_bias.item())
    assert list(tmp_path.iterdir()) == [folder]


def test_the_folder_may_move(made: Made, tmp_path: Path) -> None:
    folder = export(changed(made), tmp_path / "model", "")
    expected = encoder_of(folder).embed_texts(["a red bar"])
    shutil.move(folder, tmp_path / "elsewhere")
    np.testing.assert_array_equal(encoder_of(tmp_path / "elsewhere").embed_texts(["a red bar"]), expected)


def test_a_folder_that_would_compute_something_else_is_not_written(made: Made, tmp_path: Path) -> None:
    model = changed(made)
    model.tokenizer = lambda texts: torch.flip(ClipModel(made.config(), ALONE.device).tokenizer(texts), [1])
    with pytest.raises(ValueError, match="gives other tokens, vectors of texts than the model itself"):
        export(model, tmp_path / "model", "")
    assert list(tmp_path.iterdir()) == []


def test_the_tokenizer_of_a_hub_is_in_the_folder(made: Made, tmp_path: Path, embedded_weights: None) -> None:
    """As SigLIP's: open_clip takes it from the folder, and texts are cleaned as before."""
    text = {"context_length": 12, "vocab_size": 30522, "width": 16, "heads": 2, "layers": 1}
    text |= {"hf_tokenizer_name": "any", "tokenizer_kwargs": {"clean": "canonicalize"}}
    source = small_open_clip(tmp_path / "source", text_cfg=text)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(weights.resolve("minilm-l6-v2") / name, source)
    model = ClipModel(made.config(init={"model": f"local-dir:{source}"}), ALONE.device)
    folder = export(model, tmp_path / "model", "")
    shutil.rmtree(source)
    *_, tokenizer = OpenClipConfig(model=f"local-dir:{folder}", device="cpu").build().load()
    torch.testing.assert_close(tokenizer(["A dog, running!"]), tokenizer(["a dog running"]))
    torch.testing.assert_close(tokenizer(["A dog"]), model.tokenizer(["A dog"]))
