"""What the benchmarks start and kill: their own processes, and no others."""

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.support.processes import Tree, children_of, kill

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
ORPHAN = [sys.executable, "-c", f"import subprocess; print(subprocess.Popen({SLEEP!r}).pid, flush=True)"]


def orphan_of_a_command(log: Path) -> int:
    """Pid; it has been killed."""
    with log.open("wb") as out:
        subprocess.run(ORPHAN, stdout=out, check=True)
    kill(pid := int(log.read_text()))
    return pid


def test_a_tree_ends_its_orphans_and_leaves_what_was_there_before(tmp_path: Path) -> None:
    before = subprocess.Popen(SLEEP)
    try:
        with Tree(ORPHAN, env=os.environ, cwd=tmp_path, log=tmp_path / "log") as tree:
            while tree.is_running():
                time.sleep(0.01)
            orphan = int((tmp_path / "log").read_text())
            assert set(tree.pids()) == {orphan}
        assert not Path(f"/proc/{orphan}").exists()
        assert before.poll() is None
        assert orphan_of_a_command(tmp_path / "pid") not in children_of(os.getpid())
    finally:
        before.kill()
        before.wait()
