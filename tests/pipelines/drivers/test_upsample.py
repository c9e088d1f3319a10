"""A run keeps how its captions are; prompts are written in their style, or used as they are, and told."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from caption.llava.language import EmbeddedLanguageModel
from caption.prompt_examples import choose_examples
from curate.dataset.schemas import INDEX
from curate.dataset.store import write_parquet
from pipelines.drivers.upsample import EXAMPLES, keep_examples, read_examples
from tests.pipelines.test_train_commands import run

ENDING = "Wide shot, still camera, soft light."
PAIRS = [(f"A {name} walks.", f"A {name} walks over a meadow. {ENDING}") for name in ("fox", "owl", "bear")]


def dataset(folder: Path, pairs: Sequence[tuple[str | None, str | None]], split: str = "train") -> str:
    rows = [
        {"clip_id": str(number), "split": split, "caption_short": short, "caption_dense": dense}
        for number, (short, dense) in enumerate(pairs)
    ]
    write_parquet(f"{folder}/shards/index.parquet", pa.Table.from_pylist(rows, INDEX))
    return str(folder)


@pytest.fixture
def trained(tmp_path: Path) -> str:
    """A run's folder, with what `train` keeps in it."""
    keep_examples(dataset(tmp_path / "films", PAIRS), str(tmp_path / "run"))
    return str(tmp_path / "run")


@pytest.fixture
def likes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EmbeddedLanguageModel, "setup", lambda self: None)
    monkeypatch.setattr(EmbeddedLanguageModel, "log_likelihoods", lambda self, text, endings: np.zeros(len(endings)))


def test_a_run_keeps_pairs_of_training_clips_that_have_both(tmp_path: Path) -> None:
    films = dataset(tmp_path / "films", [*PAIRS, ("no dense", None), (None, "No short.")])
    held_out = dataset(tmp_path / "stock", [("Held out.", "Held out, too.")], split="val")
    keep_examples([films, held_out], str(tmp_path / "run"))
    assert read_examples(str(tmp_path / "run")) == choose_examples(PAIRS)


def test_a_run_that_continues_keeps_what_it_has(trained: str, tmp_path: Path) -> None:
    before = read_examples(trained)
    keep_examples(dataset(tmp_path / "others", PAIRS[:1]), trained)
    assert read_examples(trained) == before


def test_without_pairs_nothing_is_kept_and_the_command_says_so(tmp_path: Path, capsys) -> None:
    keep_examples(dataset(tmp_path / "films", [("no dense", None)]), str(tmp_path / "run"))
    assert not (tmp_path / "run" / EXAMPLES).exists()
    assert run("upsample", "a cat", "--run", str(tmp_path / "run")) == 2
    assert "lack a short or a dense caption" in " ".join(capsys.readouterr().err.split())


def test_a_file_that_is_something_else_is_told(tmp_path: Path, capsys) -> None:
    (tmp_path / EXAMPLES).write_text(json.dumps({"pairs": 1}))
    assert run("upsample", "a cat", "--run", str(tmp_path)) == 2
    assert "got no pairs of captions" in " ".join(capsys.readouterr().err.split())


def test_the_command_prints_a_caption_per_prompt(trained: str, likes_all: None, capsys) -> None:
    assert run("upsample", "a cat", "two dogs", "--run", trained) == 0
    assert capsys.readouterr().out.splitlines() == [f"A cat. {ENDING}", f"Two dogs. {ENDING}"]


def test_a_refused_prompt_is_printed_as_it_is_with_the_reason_and_exit_code_1(
    trained: str, likes_all: None, capsys
) -> None:
    assert run("upsample", "close-up of a cat", "--run", trained) == 1
    told = capsys.readouterr()
    assert told.out.splitlines() == ["close-up of a cat"]
    assert "unchanged: " in told.err
    assert "how the video is filmed" in told.err
