"""What is loaded when: settings and the commands that read tables need no heavy library."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.curated import curated

HEAVY = (
    *("torch", "torchvision", "cv2", "av", "PIL", "onnxruntime", "transformers", "diffusers", "open_clip", "timm"),
    *("scenedetect", "decord", "ray", "scipy", "sklearn", "pandas"),
)
SCRIPT = """
import atexit, json, sys
heavy = set(json.loads(sys.argv.pop(1)))
atexit.register(lambda: print("loaded", sorted(heavy & set(sys.modules))))
exec(sys.argv.pop(1))
"""
MAIN = "from pipelines.cli import main; main()"


def loaded(statements: str, *arguments: str) -> tuple[int, list[str], str]:
    """Exit code of a process of its own, the heavy libraries that it loads, and what it prints."""
    command = [sys.executable, "-c", SCRIPT, json.dumps(HEAVY), statements, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    told, _, names = done.stdout.rpartition("loaded ")
    return done.returncode, names.split(), told + done.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return curated(tmp_path_factory.mktemp("imports"))


@pytest.mark.parametrize("module", ["pipelines.config", "pipelines.cli", "train.run.config", "train.data.manifest"])
def test_settings_load_no_heavy_library(module: str) -> None:
    assert loaded(f"import {module}")[:2] == (0, ["[]"])


@pytest.mark.parametrize("command", ["curate", "caption", "encode", "train", "sample"])
def test_a_mistake_in_a_setting_is_told_before_anything_is_loaded(command: str, tmp_path: Path) -> None:
    out = [] if command in ("caption", "encode") else ["--out", str(tmp_path / "out")]
    given = ["--prompt", "a cat"] if command == "sample" else []
    code, names, told = loaded(MAIN, command, str(tmp_path), *out, *given, "--set", "train.stepz=3")
    assert (code, names) == (2, ["[]"])
    assert "train.steps" in told


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "DATASET"],
        ["select", "DATASET", "--set", "select.rules.motion.max=9"],
        ["explain", "DATASET", "1.mp4"],
        ["--help"],
    ],
)
def test_what_reads_tables_loads_no_model(made: SimpleNamespace, arguments: list[str]) -> None:
    code, names, told = loaded(MAIN, *(made.url if argument == "DATASET" else argument for argument in arguments))
    assert (code, names) == (0, ["[]"]), told
