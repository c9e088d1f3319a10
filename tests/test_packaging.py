"""The built wheel holds the packages with all of their files, and nothing else."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
PACKAGES = ("curate", "caption", "train", "pipelines", "reelpack")
LEFT_OUT = (".*", "__pycache__", "*.egg-info", "build", "dist", "demo_output")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    pytest.importorskip("setuptools", "77", reason="the wheel is built without network: setuptools must be installed")
    # Built from a copy, so that no build/ and no egg-info appear in the checkout (or come from there).
    copy, out = tmp_path_factory.mktemp("source") / "reelpack", tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "--wheel-dir", str(out), str(copy)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("reelpack-*.whl")
    return zipfile.ZipFile(path)


def test_every_file_of_the_packages_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    written = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    kinds = {Path(name).suffix for name in written}
    assert {".py", ".yaml", ".html", ".css", ".js", ".mp4"} <= kinds, "this test should have seen package data"
    assert sorted(written - set(wheel.namelist())) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_tells_type_checkers_that_it_has_types(wheel: zipfile.ZipFile, package: str) -> None:
    assert f"{package}/py.typed" in wheel.namelist()


def test_nothing_else_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == set(PACKAGES)


def test_every_folder_of_modules_is_a_package(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    folders = {name.rpartition("/")[0] for name in names if name.endswith(".py")}
    assert [folder for folder in sorted(folders) if f"{folder}/__init__.py" not in names] == []


def test_every_module_imports_from_the_wheel_outside_the_checkout(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    names = [name for name in wheel.namelist() if name.endswith(".py") and not name.endswith("__main__.py")]
    modules = [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in names]
    script = (
        "import importlib, sys\n"
        "from curate.encoders.torchvision_cpu import repair\n"
        "repair()\n"  # some modules import transformers
        "for name in sys.argv[2:]:\n"
        "    module = importlib.import_module(name)\n"
        "    assert module.__file__.startswith(sys.argv[1]), (name, module.__file__)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "site"), *modules]
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_licence_and_the_command_travel_along(wheel: zipfile.ZipFile) -> None:
    (info,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    assert "Apache License" in wheel.read(f"{info}/licenses/LICENSE").decode()
    assert "reelpack = pipelines.cli:main" in wheel.read(f"{info}/entry_points.txt").decode()
