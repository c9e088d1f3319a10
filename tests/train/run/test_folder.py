"""Folders that hold no run, or a damaged one."""

import re
from pathlib import Path

import pytest

from train.run.folder import read_run


@pytest.mark.parametrize(("name", "text"), [("config.yaml", "{: ["), ("run.json", ""), ("run.json", '{"fps": 1')])
def test_a_file_that_is_damaged_is_named(tmp_path: Path, name: str, text: str) -> None:
    for file, content in {"config.yaml": "{}", "run.json": "{}", name: text}.items():
        (tmp_path / file).write_text(content)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}/{name}: is damaged (")):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "should be a dictionary"),
        ("5", "should be a dictionary"),
        ('{"fps": 1}', "latents: Field required"),
        ('{"latents": [], "text": {}, "fps": 1, "datasets": []}', "latents: Input should be a valid dictionary"),
        ('{"latents": {}, "text": {}, "fps": 1, "datasets": []}', "latents.channels: is missing"),
        ('{"latents": {}, "text": {}, "fps": 1, "datasets": [], "later": 1}', "later: Unexpected keyword argument"),
    ],
)
def test_a_record_of_another_shape_is_one_message(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config.yaml").write_text("{}")
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        read_run(tmp_path)
    assert "\n" not in str(refused.value) and str(refused.value).startswith(f"{tmp_path}/run.json: ")


@pytest.mark.parametrize("text", ["[]", "5", '"x"'])
def test_an_exported_model_of_another_shape_is_one_message(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match="expected the settings of a model"):
        read_run(tmp_path)


def test_a_file_in_place_of_a_run_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(ValueError, match=r"no training run here .*`reelpack train` writes one"):
        read_run(tmp_path / "run")
