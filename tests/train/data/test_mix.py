"""Several datasets in one run."""

import json
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.latents import smooth_clips, write_dataset
from train.data.config import DataConfig
from train.data.epoch import EpochSamples
from train.data.load import PackLoader
from train.data.manifest import Manifest
from train.data.mix import read_datasets
from train.estimate.forecast import forecast
from train.loop import train
from train.model.dit_config import DiTConfig
from train.monitor.metrics import read_metrics
from train.objective.config import FlowConfig
from train.objective.flow import RectifiedFlow
from train.run.config import TrainConfig
from train.run.folder import read_run

SETTINGS = {
    "steps": 2,
    "device": "cpu",
    "model": {"width": 32, "depth": 1, "num_heads": 2},
    "evaluate": {"held_out": {"timesteps": [0.5], "max_clips": 4}},
}
PLAN = {"token_budget": 96, "packs_per_step": 2}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_dataset(tmp_path_factory.mktemp("films") / "films", smooth_clips(24, num_val=4)))


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_dataset(tmp_path_factory.mktemp("stock") / "stock", smooth_clips(10, num_val=3, seed=1)))


def read(*datasets: str, split: str = "train", **data) -> Manifest:
    return read_datasets(datasets, split=split, data=DataConfig(**data), model=DiTConfig())


def met(manifest: Manifest, num_epochs: int) -> np.ndarray:
    """Mean number of times that an epoch meets each row."""
    samples, rows = EpochSamples(manifest, DataConfig().epoch, DataConfig().plan, 0), np.arange(len(manifest))
    return np.mean([samples.in_epoch(rows, epoch)[0] for epoch in range(num_epochs)], axis=0)


def test_without_a_mix_every_dataset_is_met_once(films: str, stock: str):
    both = read(films, stock)
    assert [part.name for part in both.parts] == ["films", "stock"]
    assert len(both) == len(read(films)) + len(read(stock)) == 27
    assert (met(both, 3) == 1).all()


@pytest.mark.parametrize("mix", [{"films": 1, "stock": 1}, {"films": 1, "stock": 3}, {"films": 1, "stock": 0}])
def test_a_mix_is_the_share_of_samples_and_an_epoch_stays_as_long(films: str, stock: str, mix: dict):
    both = read(films, stock, mix=mix)
    of_part = np.bincount(both.sources, met(both, 300))
    assert of_part.sum() == pytest.approx(27, rel=0.02)
    assert of_part[1] / of_part.sum() == pytest.approx(mix["stock"] / sum(mix.values()), abs=0.02)


def test_balance_weights_multiply_with_the_mix(films: str, stock: str):
    both = read(films, stock, mix={"films": 1, "stock": 2})
    weights = np.where(np.arange(len(both)) % 2, 1.5, 0.5)
    balanced = met(replace(both, weights=weights), 600)
    for number, share in enumerate((1 / 3, 2 / 3)):
        of_part = both.sources == number
        expected = weights[of_part] * share * weights.sum() / weights[of_part].sum()
        np.testing.assert_allclose(balanced[of_part], expected, atol=0.12)


def test_the_order_of_the_datasets_does_not_matter(films: str, stock: str):
    one, other = read(films, f"{stock}/"), read(stock, films)
    assert one.table.equals(other.table) and (one.keys == other.keys).all()


def drawn(*datasets: str, mix: dict | None = None) -> dict[str, list[tuple]]:
    """Noise and timestep that each clip gets in the first epoch."""
    data = DataConfig.model_validate({"plan": PLAN, "mix": mix or {}})
    manifest = read_datasets(datasets, split="train", data=data, model=DiTConfig())
    loader = PackLoader(manifest, RectifiedFlow(FlowConfig()), data, model=DiTConfig(), seed=0)
    given: dict[str, list[tuple]] = {}
    for planned in sorted(one for pack in loader.planner.epoch(0) for one in pack):
        sample = loader.builder.build(planned, 0)
        given.setdefault(sample.clip_id, []).append((sample.timestep, sample.noise.sum().item()))
    return given


def test_what_a_clip_is_given_does_not_depend_on_the_datasets_beside_its_own(films: str, stock: str):
    alone, mixed = drawn(films), drawn(films, stock)
    both = alone.keys() & mixed.keys()
    assert len(both) == 20 and all(alone[clip] == mixed[clip] for clip in both)


def test_a_clip_of_two_datasets_is_met_for_each_with_draws_of_its_own(films: str, tmp_path: Path):
    write_dataset(tmp_path / "again", smooth_clips(24, num_val=4))
    manifest = read(films, str(tmp_path / "again"))
    assert set(Counter(manifest.clip_ids).values()) == {2} and len(set(manifest.keys.tolist())) == len(manifest)
    twice = [given for given in drawn(films, str(tmp_path / "again")).values() if len(given) == 2]
    assert len(twice) > 10 and all(first != second for first, second in twice)


def test_validation_is_told_apart_by_dataset_and_the_run_records_them(films: str, stock: str, tmp_path: Path):
    settings = SETTINGS | {"data": {"plan": PLAN, "mix": {"films": 1, "stock": 1}}}
    config = TrainConfig.model_validate(settings)
    train(config, [films, stock], tmp_path / "run")
    row = next(row for row in read_metrics(tmp_path / "run/metrics.jsonl") if "val_loss" in row)
    assert row["val_loss"] == pytest.approx(np.mean(list(row["val_loss_by_dataset"].values())))
    assert list(row["val_loss_by_dataset"]) == ["films", "stock"]
    record = read_run(tmp_path / "run")[1]
    assert [(part["name"], part["url"], part["share"]) for part in record.datasets] == [
        ("films", films, 0.5),
        ("stock", stock, 0.5),
    ]
    with pytest.raises(ValueError, match="was trained on films, stock, got films; name the same datasets"):
        train(TrainConfig.model_validate(SETTINGS | {"data": {"plan": PLAN}}), films, relabelled(tmp_path / "run"))


def relabelled(run: Path) -> Path:
    """A run whose configuration names no mix, so that the datasets alone differ."""
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("  mix:\n    films: 1.0\n    stock: 1.0\n", "  mix: {}\n"))
    return run


def test_a_dataset_that_grew_is_refused_when_a_run_goes_on(stock: str, tmp_path: Path):
    config = TrainConfig.model_validate(SETTINGS | {"data": {"plan": PLAN}})
    train(config, write(tmp_path / "d", 10), tmp_path / "run")
    with pytest.raises(ValueError, match=r"was trained on 10 clips of .*, which now has other ones \(12\)"):
        train(config.model_copy(update={"steps": 3}), write(tmp_path / "d", 12), tmp_path / "run")


def write(root: Path, num_clips: int) -> str:
    return str(write_dataset(root, smooth_clips(num_clips)))


def test_a_clip_that_one_dataset_holds_out_and_another_trains_on_is_told(
    films: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    write_dataset(tmp_path / "all", smooth_clips(24))
    with caplog.at_level(logging.WARNING):
        train(
            TrainConfig.model_validate(SETTINGS | {"data": {"plan": PLAN}}),
            [films, str(tmp_path / "all")],
            tmp_path / "run",
        )
    assert "4 clips are trained on and held out" in caplog.text


def test_the_forecast_tells_shares_of_samples_and_tokens(films: str, stock: str):
    settings = SETTINGS | {"data": {"plan": PLAN, "mix": {"films": 1, "stock": 4}}}
    planned = forecast(TrainConfig.model_validate(settings), [films, stock])
    assert sum(part.num_seen for part in planned.parts) == planned.num_seen
    assert sum(part.num_tokens for part in planned.parts) == planned.num_tokens
    assert planned.parts[1].num_seen > 2 * planned.parts[0].num_seen


@pytest.mark.parametrize(
    "mix", [{"films": 1}, {"films": 1, "stocks": 1}, {"films": 0, "stock": 0}], ids=["missing", "unknown", "all 0"]
)
def test_a_mix_that_fits_the_datasets_not_is_refused(films: str, stock: str, mix: dict):
    with pytest.raises(ValueError, match=r"train\.data\.mix: got .*expected a weight for each .*films, stock"):
        read(films, stock, mix=mix)
    with pytest.raises(ValueError, match="expected at least one, and each once"):
        read(films, f"{films}/")
    with pytest.raises(ValueError, match="expected numbers from 0 on"):
        DataConfig(mix={"films": -1})


@pytest.mark.parametrize(("kind", "name"), [("latents", "lat0"), ("text", "txt0")])
def test_datasets_of_unlike_spaces_are_refused(films: str, tmp_path: Path, kind: str, name: str):
    root = write_dataset(tmp_path / "other", smooth_clips(6, seed=2))
    (root / kind / name).rename(root / kind / "else")
    path = root / kind / "else/fingerprint.json"
    record = json.loads(path.read_text()) | {"fingerprint": "else"}
    space = {"autoencoder_fingerprint": "a", "encoder_fingerprint": "e"}
    path.write_text(json.dumps(record | space))
    with pytest.raises(ValueError, match=rf"share a space of {kind}: .*{name} .* and .*else .*`reelpack encode` one"):
        read(films, str(root))


def test_datasets_of_one_space_and_other_settings_mix(make_space: Callable, tmp_path: Path):
    one, other = make_space("one", "lat-256"), make_space("two", "lat-512")
    assert {part.latents for part in read(one, other).parts} == {"lat-256", "lat-512"}


@pytest.fixture
def make_space(tmp_path: Path) -> Callable[[str, str], str]:
    def make(name: str, fingerprint: str) -> str:
        root = write_dataset(tmp_path / name, smooth_clips(6, seed=len(fingerprint)))
        (root / "latents/lat0").rename(root / "latents" / fingerprint)
        path = root / "latents" / fingerprint / "fingerprint.json"
        record = json.loads(path.read_text())
        path.write_text(json.dumps(record | {"fingerprint": fingerprint, "autoencoder_fingerprint": "same"}))
        return str(root)

    return make
