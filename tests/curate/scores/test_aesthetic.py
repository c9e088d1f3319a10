import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from curate.encoders.base import EncoderPool
from curate.encoders.efficientnet import EfficientNetConfig
from curate.encoders.weights import MissingWeights
from curate.scores.aesthetic import AestheticConfig, load_head
from curate.scores.frames import ClipFrames, embed


def laion_v2(width: int) -> torch.nn.Sequential:
    """The layers of LAION's improved predictor: no non-linearity between them, dropout while training."""
    torch.manual_seed(0)
    widths = [width, 64, 32, 16, 8, 1]
    layers: list[torch.nn.Module] = []
    for wide, narrow in itertools.pairwise(widths):
        layers += [torch.nn.Linear(wide, narrow), torch.nn.Dropout(0.2)]
    return torch.nn.Sequential(*layers).eval()


def test_ratings_are_those_of_the_module_that_was_saved(
    tmp_path: Path, encoders: EncoderPool, embedded_weights: None, film: list[ClipFrames]
) -> None:
    model = laion_v2(1280)
    file = tmp_path / "sac+logos+ava1-l14-linearMSE.pth"
    torch.save({f"layers.{name}": value for name, value in model.state_dict().items()}, file)
    scorer = AestheticConfig(encoder=EfficientNetConfig(), head=file).build()
    scorer.setup(encoders)
    encoder = encoders.load(EfficientNetConfig().build())
    for clip, score in zip(film, scorer.score(film), strict=True):
        vectors = torch.from_numpy(embed([clip], encoder)[0])
        with torch.inference_mode():
            assert score["aesthetic"] == pytest.approx(model(vectors).mean().item(), abs=1e-5)


def test_one_layer_without_a_number_is_a_head_too(tmp_path: Path) -> None:
    weight, bias = torch.tensor([[1.0, 2.0, -3.0]]), torch.tensor([0.5])
    for file, save in ((tmp_path / "a.safetensors", save_file), (tmp_path / "a.pth", torch.save)):
        save({"weight": weight, "bias": bias}, file)
        got = load_head(file)
        np.testing.assert_array_equal(got[0], [1, 2, -3])
        assert got[1] == 0.5


def test_layers_are_taken_by_number_not_by_spelling(tmp_path: Path) -> None:
    model = torch.nn.ModuleDict(
        {f"layers_{n}": torch.nn.Linear(3 if n < 10 else 2, 2 if n < 10 else 1) for n in (10, 9)}
    )
    torch.save(model.state_dict(), tmp_path / "head.pth")
    weight, bias = load_head(tmp_path / "head.pth")
    x = torch.tensor([0.3, -0.2, 0.9])
    with torch.inference_mode():
        assert x.double().numpy() @ weight + bias == pytest.approx(model["layers_10"](model["layers_9"](x)).item())


def test_a_head_that_is_not_there_is_named(tmp_path: Path, embedded_weights: None) -> None:
    scorer = AestheticConfig(encoder=EfficientNetConfig(), head=tmp_path / "none.pth").build()
    for use in (lambda: scorer.key, lambda: scorer.setup(EncoderPool())):
        with pytest.raises(MissingWeights, match=r"aesthetic\.head: .*none\.pth is not there"):
            use()


def test_a_file_that_is_no_head_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(ValueError, match="cannot be read as weights"):
        load_head(tmp_path / "text.pth")
    torch.save(torch.nn.Linear(4, 3).state_dict(), tmp_path / "wide.pth")
    with pytest.raises(ValueError, match="expected linear layers from an embedding to one number"):
        load_head(tmp_path / "wide.pth")


def test_a_head_for_another_encoder_stops_the_run_before_any_clip(
    tmp_path: Path, encoders: EncoderPool, embedded_weights: None
) -> None:
    torch.save(torch.nn.Linear(768, 1).state_dict(), tmp_path / "l14.pth")
    scorer = AestheticConfig(encoder=EfficientNetConfig(), head=tmp_path / "l14.pth").build()
    with pytest.raises(ValueError, match="rates embeddings of 768 numbers, the encoder efficientnet_lite0 gives 1280"):
        scorer.setup(encoders)
