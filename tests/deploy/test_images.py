"""The Dockerfile: what linters say of it, and that its versions and files are the checkout's."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
BIN = Path(sys.executable).parent


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run([BIN / "hadolint", DOCKERFILE], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_versions_are_those_that_were_tested_together() -> None:
    pinned = set((ROOT / "constraints.txt").read_text().split())
    named = re.findall(r'"(torch(?:vision)?==[\d.]+)\+cpu"', DOCKERFILE.read_text())
    assert len(named) == 2 and set(named) <= pinned


def test_images_hold_the_extras_of_the_package_and_run_as_a_user() -> None:
    text = DOCKERFILE.read_text()
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys()
    extras = {name for names in re.findall(r'reelpack-\*\.whl\)\[([^\]]+)\]"', text) for name in names.split(",")}
    assert {"all", "s3"} <= extras <= known
    assert re.findall(r"^USER (.+)$", text, re.M) == ["1000:1000"]
    assert not re.search(r"^ARG .*:latest", text, re.M)


def test_the_context_holds_what_the_wheel_is_built_of_and_no_more() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines and all((ROOT / name).exists() for name in allowed)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.removesuffix("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    needed = packages | {project["project"]["readme"], *project["project"]["license-files"], "pyproject.toml"}
    assert allowed == needed | {"constraints.txt"}


def test_images_have_the_tags_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    files = [DOCKERFILE, *(ROOT / "deploy" / "kuberay").glob("*.yaml")]
    tags = {tag for file in files for tag in re.findall(r"reelpack:([\w.-]+)", file.read_text())}
    assert tags == {f"{version}-cpu", f"{version}-gpu"}
