"""What `--autoencoder` names."""

from pathlib import Path

import pytest

from train.autoencoder.config import DiffusersAutoencoderConfig, ReelpackConfig
from train.autoencoder.given import autoencoder_given
from train.autoencoder.temporal_decoder.config import TemporalDecoderConfig


def test_a_folder_is_of_the_kind_that_its_configuration_says(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"kind": "temporal_decoder"}')
    assert autoencoder_given(str(tmp_path)) == TemporalDecoderConfig(path=str(tmp_path))
    for written in ('{"spatial_stride": 8}', "[]", "no JSON"):
        (tmp_path / "config.json").write_text(written)
        assert autoencoder_given(str(tmp_path)) == ReelpackConfig(path=str(tmp_path))
    assert autoencoder_given(str(tmp_path / "none")) == ReelpackConfig(path=str(tmp_path / "none"))


def test_settings_and_the_embedded_one_are_named_too() -> None:
    assert autoencoder_given("embedded") == ReelpackConfig()
    assert autoencoder_given("{kind: diffusers, path: a/b}") == DiffusersAutoencoderConfig(path="a/b")
    for name in ("{kind: nothing}", "{kind: ["):
        with pytest.raises(ValueError, match=r"(?s)no settings of an autoencoder.*a folder of train-autoencoder"):
            autoencoder_given(name)
