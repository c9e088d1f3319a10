"""A call in a process of its own: what it gives and raises, and that it never outlives the caller."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.execute.own_process import in_own_process
from tests.support.processes import command_line, kill

CALLER = """
import signal
import sys
from pipelines.execute.own_process import in_own_process
from tests.pipelines.execute.test_own_process import waits

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    in_own_process(waits, sys.argv[1])
"""


def raises(message: str) -> None:
    raise ValueError(message)


def dies() -> None:
    os._exit(3)


def waits(file: str) -> None:
    Path(file).write_text(str(os.getpid()))
    time.sleep(60)


def test_a_call_gives_what_it_gives_here_from_another_process():
    assert in_own_process(os.getpid) != os.getpid()
    with pytest.raises(ValueError, match=r"^bad setting$"):
        in_own_process(raises, "bad setting")


def test_a_process_that_dies_is_an_error():
    with pytest.raises(RuntimeError, match="ended with 3"):
        in_own_process(dies)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_call_ends_with_its_caller(tmp_path: Path, number: signal.Signals):
    script, told = tmp_path / "caller.py", tmp_path / "pid"
    script.write_text(CALLER)
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, str(script), str(told)], env=os.environ | {"PYTHONPATH": str(root)}, stderr=subprocess.DEVNULL
    ) as caller:
        while not (told.exists() and told.read_text()):
            time.sleep(0.01)
        pid = int(told.read_text())
        caller.send_signal(number)
        caller.wait()
    deadline = time.monotonic() + 30
    while command_line(pid):  # a zombie, which nobody has waited for, has none
        if time.monotonic() > deadline:
            kill(pid)
            pytest.fail("the call outlives its caller")
        time.sleep(0.01)
