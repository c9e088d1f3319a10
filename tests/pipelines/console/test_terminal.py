"""The commands on a terminal, which a test otherwise never sees: nothing there stops a process, or looks for one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.terminal import on_terminal
from tests.support.videos import moving, write_video

REPOSITORY = Path(__file__).parents[3]

CURATE = """
import sys
from pipelines import cli
from pipelines.steps import scan
from tests.support.stages import ScanOnTerminal

scan.ScanStage = ScanOnTerminal
cli.main(["curate", *sys.argv[1:]])
"""

INTERRUPTED = """
import os, sys, time
from curate.cut import CutStage
from pipelines import cli

def work(stage, items):
    os.write(1, b"at work")  # where a signal is surely seen
    while True:  # not in one call: a signal that comes before it would not end it
        time.sleep(0.05)

CutStage.process = work
cli.main(["curate", *sys.argv[1:]])
"""

IN_BACKGROUND = """
import os, sys
from curate.terminal import leave_terminal
from tests.support.terminal import USE_TERMINAL

child = os.fork()
if not child:
    if sys.argv[1] == "leads a group":
        os.setpgid(0, 0)
    else:  # one of a group in the background, whose leader has ended
        os.setpgid(0, 0)
        if child := os.fork():
            os._exit(os.waitstatus_to_exitcode(os.waitpid(child, os.WUNTRACED)[1]))
    leave_terminal()
    exec(USE_TERMINAL)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, os.WUNTRACED)[1]))
"""

IMPORT_ALL = """
import ast, importlib, importlib.util, pkgutil, sys

STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "os.exec", "pty.spawn"}
importing = ""

def hook(event, arguments):
    if event in STARTS:
        print(f"{importing}: {event} {arguments[:2]}", flush=True)

sys.addaudithook(hook)
from curate.encoders import torchvision_cpu

torchvision_cpu.repair()
names = set()
for package in ("curate", "caption", "train", "pipelines"):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        names.add(module.name)
        with open(importlib.util.find_spec(module.name).origin) as source:
            for node in ast.walk(ast.parse(source.read())):
                if isinstance(node, ast.Import):
                    names |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names.add(node.module)
for importing in sorted(name for name in names if not name.endswith("__main__")):
    try:
        importlib.import_module(importing)
    except ImportError:
        pass  # of an extra that is not installed
"""


@pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.slow])])
def test_curate_comes_to_its_end_on_a_terminal(executor: str, tmp_path: Path) -> None:
    write_video(tmp_path / "films/1.mp4", moving(1, 2))
    ffmpeg = tmp_path / "bin/ffmpeg"
    ffmpeg.parent.mkdir()
    ffmpeg.write_text(f"#!/bin/sh\ntouch {tmp_path}/ffmpeg-was-run\n")
    ffmpeg.chmod(0o755)
    small = [
        "scan.detector.kind=adaptive",
        "score.scorers=null",
        "select.rules.short_side_px.min=16",
        f"execute.executor={executor}",
        "execute.num_workers=1",
    ]
    settings = [word for setting in small for word in ("--set", setting)]
    ended = on_terminal(
        ["-c", CURATE, str(tmp_path / "films"), "--out", str(tmp_path / "dataset"), *settings],
        environment={"PATH": f"{ffmpeg.parent}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)},
    )
    assert ended.code == 0, ended.screen
    assert "in the index" in ended.screen
    assert not (tmp_path / "ffmpeg-was-run").exists()


@pytest.mark.parametrize("who", ["leads a group", "is in a group"])
def test_what_left_the_terminal_is_not_stopped_there(who: str) -> None:
    ended = on_terminal(["-c", IN_BACKGROUND, who], environment={"PYTHONPATH": str(REPOSITORY)})
    assert ended.code == 0, ended.screen


@pytest.mark.slow
def test_no_import_starts_a_process() -> None:
    said = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    assert not said.stdout


def test_an_interruption_says_what_stays(tmp_path: Path) -> None:
    write_video(tmp_path / "films/1.mp4", moving(1, 2))
    settings = [
        "--set",
        "scan.detector.kind=adaptive",
        "--set",
        "score.scorers=null",
        "--set",
        "execute.executor=local",
    ]
    ended = on_terminal(
        ["-c", INTERRUPTED, str(tmp_path / "films"), "--out", str(tmp_path / "dataset"), *settings],
        environment={"PYTHONPATH": str(REPOSITORY)},
        interrupt_at=lambda screen: "at work" in screen,
    )
    assert ended.code == 130, ended.screen
    said = " ".join(ended.screen.split())
    assert f"interrupted: {tmp_path}/dataset has 1 inputs scanned, 1 clips found" in said
    assert "the same command resumes from there" in said
    assert "Traceback" not in said
