import pickle

import numpy as np
import pytest

from curate.encoders import weights
from curate.encoders.brisque_svr import load_svr
from curate.encoders.onnx import OnnxModel
from curate.encoders.weights import MissingWeights


@pytest.fixture(scope="module")
def detector() -> OnnxModel:
    weights.fetch(["pp-ocrv6-det-small"])
    model = OnnxModel("pp-ocrv6-det-small", "cpu")
    model = pickle.loads(pickle.dumps(model))
    model.setup()
    return model


def test_it_computes_and_a_batch_is_its_pictures_one_by_one(detector: OnnxModel) -> None:
    batch = np.random.default_rng(0).normal(size=(2, 3, 64, 96)).astype(np.float32)
    together = detector(batch)
    assert together.shape == (2, 1, 64, 96) and not detector.on_gpu
    np.testing.assert_array_equal(together, np.concatenate([detector(one[None]) for one in batch]))


def test_what_it_cannot_compute_is_a_runtime_error_that_names_the_model(detector: OnnxModel) -> None:
    with pytest.raises(RuntimeError, match="pp-ocrv6-det-small"):
        detector(np.zeros((1, 7, 64, 64), np.float32))


def test_missing_weights_say_how_to_get_them(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("REELPACK_CACHE", str(tmp_path))
    with pytest.raises(MissingWeights, match="reelpack weights open-nsfw"):
        _ = OnnxModel("open-nsfw").fingerprint


def test_the_converted_regression_predicts_as_its_formula_says() -> None:
    svr = load_svr(weights.fetch(["brisque-live"])["brisque-live"])
    assert svr.vectors.shape == (770, 36) and (svr.low < svr.high).all()
    assert np.abs(svr.vectors).max() < 10 and abs(svr.coefficients.sum()) < 1e-6  # Σ cᵢ = 0: the dual's constraint
    features = svr.low + (svr.high - svr.low) * np.random.default_rng(0).random((2, 36))
    for x, got in zip(features, svr(features), strict=True):
        scaled = -1 + 2 * (x - svr.low) / (svr.high - svr.low)
        expected = -svr.rho
        for coefficient, vector in zip(svr.coefficients, svr.vectors, strict=True):
            expected += coefficient * np.exp(-svr.gamma * sum((scaled - vector) ** 2))
        assert got == pytest.approx(expected)
