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
import importlib, json, sys
for one in json.loads(sys.argv[2]):
    code = None
    try:
        if isinstance(one, str):
            importlib.import_module(one)
        else:
            importlib.import_module("pipelines.cli").main(one)
    except SystemExit as ended:
        code = ended.code
    print("loaded", json.dumps([code, sorted({*json.loads(sys.argv[1])} & {*sys.modules})]))
"""


def loaded(*what: str | list[str]) -> tuple[list[tuple[int | None, list[str]]], list[str]]:
    """Modules by name and command lines, one after the other in a process of its own: the exit code after each and the
    heavy libraries that are loaded by then; what each prints."""
    command = [sys.executable, "-u", "-c", SCRIPT, json.dumps(HEAVY), json.dumps(what)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    told, found = [""], []
    for line in done.stdout.splitlines():
        if line.startswith("loaded "):
            code, names = json.loads(line.removeprefix("loaded "))
            found.append((code, names))
            told.append("")
        else:
            told[-1] += f"{line}\n"
    assert len(found) == len(what), done.stdout
    return found, told


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return curated(tmp_path_factory.mktemp("imports"))


def test_settings_load_no_heavy_library() -> None:
    modules = ("train.data.manifest", "train.run.config", "pipelines.config", "pipelines.cli")
    assert dict(zip(modules, loaded(*modules)[0], strict=True)) == dict.fromkeys(modules, (None, []))


def test_a_mistake_in_a_setting_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    wrong, out = ["--set", "train.stepz=3"], ["--out", str(tmp_path / "out")]
    given = {"curate": out, "caption": [], "encode": [], "train": out, "sample": [*out, "--prompt", "a cat"]}
    found, told = loaded(*([command, str(tmp_path), *words, *wrong] for command, words in given.items()))
    assert dict(zip(given, found, strict=True)) == dict.fromkeys(given, (2, []))
    assert [command for command, said in zip(given, told, strict=False) if "train.steps" not in said] == []


def test_what_reads_tables_loads_no_model(made: SimpleNamespace) -> None:
    commands = {
        "status": [made.url],
        "select": [made.url, "--set", "select.rules.motion.max=9"],
        "explain": [made.url, "1.mp4"],
        "--help": [],
    }
    found, told = loaded(*([command, *words] for command, words in commands.items()))
    assert dict(zip(commands, found, strict=True)) == dict.fromkeys(commands, (0, [])), "".join(told)
