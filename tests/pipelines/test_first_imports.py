"""Threads import no native module for the first time: two of them at once see half of it."""

import subprocess
import sys
from pathlib import Path

from pipelines.config import load_config
from pipelines.drivers.curate import curate
from tests.support.curated import SETTINGS
from tests.support.videos import moving, write_video

NATIVE = ("av", "cv2", "PIL", "torch", "torchvision", "transformers", "diffusers", "safetensors", "scipy", "pandas")
SCRIPT = f"""
import sys, threading
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in {NATIVE} and threading.current_thread() is not threading.main_thread():
            print("in a thread:", name)
sys.meta_path.insert(0, Watch())
from pipelines.cli import main
main()
"""


def test_the_report_of_many_clips_is_written_by_a_process_that_decoded_nothing_before(tmp_path: Path) -> None:
    for seed in range(8):  # more than the report has threads
        write_video(tmp_path / f"films/{seed}.mp4", moving(seed, 1.0))
    curate([str(tmp_path / "films")], str(tmp_path / "dataset"), load_config(overrides=SETTINGS))
    command = [sys.executable, "-c", SCRIPT, "report", str(tmp_path / "dataset")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "in a thread:" not in done.stdout, done.stdout + done.stderr
    assert "no picture" not in (tmp_path / "dataset/report/index.html").read_text()
