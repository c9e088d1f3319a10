"""What is made of the frames of another reader has a key of its own, and is made again by the same reader."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from curate.dataset.dataset import Dataset
from curate.scores.config import default_scorers
from pipelines.commands.encode import show
from pipelines.config import load_config
from pipelines.dataset import config_of, curate_command, step_command, step_config
from pipelines.drivers.curate import curate
from pipelines.drivers.encode import encode
from tests.support.curated import SETTINGS, curated
from tests.support.numbered import encode as write
from tests.support.readers import reader
from tests.support.videos import moving
from train.data.encode import Encoder

DECORD = "media.reader=decord"
OTHERS = dict.fromkeys(name for name in default_scorers() if name != "static_overlay")
OVERLAY = f"score.scorers={json.dumps(OTHERS)}"
ENCODE = ["execute.executor=local", "encode.max_area_px=6144", "encode.autoencoder.device=cpu"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A dataset without scores; decord is there."""
    reader("decord")
    return curated(tmp_path_factory.mktemp("read"))


def test_scores_by_another_reader_are_another_family(made: SimpleNamespace) -> None:
    write(made.films / "old.ts", moving(7, 2.0), container="mpegts")
    families = []
    for media in ([], [DECORD]):
        result = curate([str(made.films)], made.url, load_config(overrides=[*SETTINGS, OVERLAY, *media]))
        families.append(made.dataset.made_with()["families"])
    assert families[0] != families[1] and len(families[1]) == 1
    assert result.reader_note == "read by pyav, not by decord: 1 × the container is mpegts"
    stored = [made.dataset.scores(*one, {}).ids() for one in families]
    assert stored[0] == stored[1] != set()
    assert config_of(made.dataset).media.reader == "decord" and DECORD in curate_command(made.dataset)
    again = curate([str(made.films)], made.url, load_config(overrides=[*SETTINGS, OVERLAY, DECORD]))
    assert again.num_frames_decoded == 0 and again.reader_note is None


def test_latents_of_another_reader_are_trained_on_as_they_were_encoded(
    made: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    pyav = encode(made.url, load_config(overrides=ENCODE)).latents
    stored = encode(made.url, load_config(overrides=[*ENCODE, DECORD]))
    online = encode(made.url, load_config(overrides=[*ENCODE, DECORD, "encode.store=false"])).latents
    assert len({pyav, stored.latents, online}) == 3
    show(stored)
    assert "not by decord" not in capsys.readouterr().out
    folder = made.dataset.layout.encoded("latents", online)
    record = json.loads(Path(folder.record).read_text())
    assert record["media"]["reader"] == "decord" and record["libraries"]["decord"]
    (row, *_) = made.dataset.read_index().to_pylist()
    again = Encoder(folder.url, made.dataset.layout.shards).tensors(row | {"window": 0})["latent"]
    assert torch.equal(again, latent_of(made.dataset, stored.latents, row["clip_id"]))
    other = latent_of(made.dataset, pyav, row["clip_id"])
    assert 0 < (again - other).abs().mean() < 0.1 * other.abs().mean()
    assert step_config(made.dataset, "encode").media.reader == "decord"
    assert DECORD in step_command(made.dataset, "encode")


def latent_of(dataset: Dataset, latents: str, clip_id: str) -> torch.Tensor:
    from safetensors.torch import load

    from curate.shards.tar import TarReader, read_member

    folder = dataset.layout.encoded("latents", latents)
    (row,) = [row for row in dataset.encoded("latents", latents).rows() if row["clip_id"] == clip_id]
    return load(read_member(TarReader(folder.url), row))["latent"].float()


def test_a_reader_that_is_missing_ends_the_command_before_any_work(
    made: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)
    config = load_config(overrides=[*SETTINGS, DECORD])
    with pytest.raises(ModuleNotFoundError, match="decord"):
        curate([str(made.films)], str(tmp_path / "new"), config)
    assert not (tmp_path / "new").exists()
    with pytest.raises(ModuleNotFoundError, match="decord"):
        encode(made.url, load_config(overrides=[*ENCODE, DECORD]))
