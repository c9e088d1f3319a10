"""The cost of encoding and of training is predicted from a part of them, and what is paid follows from the hours."""

import tempfile
from pathlib import Path

import pytest

from pipelines.commands.plan import Nodes, show_encoding, show_training
from pipelines.config import Config, load_config
from pipelines.drivers.encode import encode
from pipelines.estimate import plan_encode, plan_train
from tests.support.curated import caption, curated
from tests.support.latents import smooth_clips, write_dataset

ENCODE = ["execute.executor=local", "encode.max_area_px=6144", "encode.autoencoder.device=cpu"]


def test_encoding_is_predicted_and_the_probe_stores_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, config = curated(tmp_path), load_config(overrides=ENCODE)
    caption(made.dataset)
    planned = plan_encode.plan(made.url, config)
    assert not (made.out / "latents").exists()
    assert (planned.num_clips, planned.num_texts, planned.num_probed, planned.num_failed) == (2, 2, 2, 0)
    show_encoding(planned, Nodes(count=2, price_per_hour=36.0))
    words = capsys.readouterr().out
    assert "on each of 2 machines" in words
    assert f"{planned.total_s.value * 36 / 3600:,.2f}" in words.partition("price")[2]

    done = encode(made.url, config)
    assert planned.num_tokens.value == pytest.approx(done.num_tokens)
    stored = made.dataset.encoded("latents", done.latents).read(["size"])["size"].to_pylist()
    assert planned.latent_bytes.value == pytest.approx(sum(stored))
    assert done.text is not None
    texts = made.dataset.encoded("text", done.text).read(["size"])["size"].to_pylist()
    assert planned.text_bytes.value == pytest.approx(sum(texts))
    with pytest.raises(ValueError, match="nothing is left to plan"):
        plan_encode.plan(made.url, config)


@pytest.mark.parametrize(("num_frames", "fps", "wanted"), [(48, 24, 24), (600, 24, 129), (1, 0, 1)])
def test_what_enters_the_autoencoder_is_counted(num_frames: int, fps: float, wanted: int) -> None:
    config = load_config(overrides=["encode.fps=12", "encode.max_area_px=1024", "encode.multiple_px=16"]).encode
    row = {"num_frames": num_frames, "fps": fps, "height": 720, "width": 720}
    middle = config.model_copy(update={"windows": "middle"})
    assert plan_encode._num_pixels(row, middle) == wanted * 32 * 32
    assert plan_encode._num_pixels(row, config) == (num_frames // 2 if fps else 1) * 32 * 32  # every frame


def tiny(*settings: str) -> Config:
    shape = ["train.model.width=24", "train.model.depth=1", "train.model.num_heads=2", "train.device=cpu"]
    plan = ["train.data.plan.token_budget=64", "train.data.plan.packs_per_step=2"]
    return load_config(overrides=[*shape, *plan, "train.steps=500", "train.checkpoint.every=100", *settings])


def test_a_training_is_predicted_by_its_first_steps_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = str(write_dataset(tmp_path / "dataset", smooth_clips(12, num_val=2)))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    planned = plan_train.plan(dataset, tiny(), num_sampled=4, num_ranks=2)
    assert not list(tmp_path.glob("tmp*"))
    assert (planned.num_steps, planned.num_probed) == (500, 4)
    assert planned.total_s.value == pytest.approx(500 * planned.step_s.value)
    assert planned.step_s.low <= planned.step_s.value <= planned.step_s.high
    # Weights, two moments and the average in float32, of two checkpoints; the headers of small tensors are as large.
    assert 1 < planned.checkpoint_bytes / (2 * 16 * planned.forecast.num_parameters) < 2.5
    show_training(planned, Nodes(count=2, price_per_hour=3600.0))
    price = capsys.readouterr().out.partition("price")[2].split()[0]
    assert price == f"{2 * planned.total_s.value:,.2f}"


def test_machines_that_do_not_divide_the_packs_of_a_step_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 machines do not divide the 2 packs of a step"):
        plan_train.plan(str(tmp_path), tiny(), num_ranks=3)
