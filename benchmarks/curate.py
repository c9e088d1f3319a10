"""Raw videos → shards: reelpack beside what else does it, on the same input, one after the other in one run.

    python -m benchmarks.curate [VIDEO...] [--rounds 1] [--data-juicer VENV] [--nemo-curator VENV] [--skip NAME]

- `local`, `ray`: `reelpack curate`, every clip of at least a second kept, so that all sides write the same film.
- `naive`: PySceneDetect, an ffmpeg per clip, a decode per score, a tar (`benchmarks/naive.py`): the same encoder
  settings, signals and scorers. Needs ffmpeg: on the PATH, or the package imageio-ffmpeg.
- `data-juicer`: py-data-juicer 1.6.1 with `av==13.1.0` in a virtual environment of its own: scene split, duration,
  resolution and one motion score. It computes one of the scores only.
- `nemo-curator`: nemo-curator[video_cpu] 1.4.0 with `av` and `opencv-python-headless`, likewise: its steps for CPUs,
  which are a split at fixed stride (it finds no shots), transcoding and a motion filter. Needs ffprobe, too, and an
  ffmpeg with libopenh264 or libvpx.

Wall-clock time includes the start of each program. CPU time is that of all its processes: the fairer figure where
other work runs on the machine.
"""

import argparse
import json
import os
import re
import resource
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av
import pyarrow.parquet as pq
import yaml

from benchmarks.machine import described
from tests.support.corpus import MANY_PARTS
from tests.support.processes import Tree

ROOT = Path(__file__).parent.parent
DEMO_VIDEOS = [str(ROOT / "pipelines" / "demo" / "media" / f"bbb_{part}.mp4") for part in "ab"]
LIMIT_S = 3600
STEP = re.compile(r"^(\w+): (\d+)/\2 in ([\d.]+) s$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One run: clips written, seconds on the wall clock and of all CPUs, seconds by step."""

    num_clips: int
    wall_s: float
    cpu_s: float
    steps: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Workshop:
    """The input, and an empty folder."""

    folder: Path
    videos: Sequence[Path]
    ffmpeg: str | None
    data_juicer: Path | None
    nemo_curator: Path | None

    def run(self, command: Sequence[str], name: str, env: Mapping[str, str] | None = None) -> tuple[str, float, float]:
        """What the command printed, and its wall-clock and CPU seconds.

        Raises:
            RuntimeError: it failed or took too long.
        """
        log = self.folder / f"{name}.log"
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        own |= {"RAY_TMPDIR": str(self.folder), **(env or {})}
        with Tree(command, env=own, cwd=ROOT, log=log) as tree:
            code = tree.driver.wait(LIMIT_S)
            wall_s = tree.seconds
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        said = log.read_text(errors="replace")
        if code != 0:
            raise RuntimeError(f"{name} ended with {code}: {said[-1500:]}")
        return said, wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", default=DEMO_VIDEOS)
    parser.add_argument("--rounds", type=int, default=1, help="runs of each; medians are shown")
    parser.add_argument("--data-juicer", type=Path, help="its virtual environment")
    parser.add_argument("--nemo-curator", type=Path, help="its virtual environment")
    parser.add_argument("--skip", action="append", default=[], choices=list(CONTESTANTS))
    arguments = parser.parse_args()
    print(described())
    videos = [Path(video).absolute() for video in arguments.videos]
    length_s = sum(map(duration_s, videos))
    print(f"{', '.join(video.name for video in videos)}: {length_s:.0f} s of film, {arguments.rounds} rounds")
    results: dict[str, list[Result]] = {}
    for _ in range(arguments.rounds):
        for name, contestant in CONTESTANTS.items():
            with tempfile.TemporaryDirectory(prefix="curate-", ignore_cleanup_errors=True) as folder:
                workshop = Workshop(
                    folder=Path(folder),
                    videos=videos,
                    ffmpeg=find_ffmpeg(),
                    data_juicer=arguments.data_juicer,
                    nemo_curator=arguments.nemo_curator,
                )
                try:
                    result = "skipped" if name in arguments.skip else contestant(workshop)
                except RuntimeError as error:  # one that cannot run here does not cost the others' figures
                    result = str(error)
            if isinstance(result, Result):
                results.setdefault(name, []).append(result)
            else:
                print(f"  {name:13} {result}")
    show(results, length_s)


def show(results: Mapping[str, Sequence[Result]], length_s: float) -> None:
    """The table: medians, and their ratios to the first contestant's."""
    print(f"  {'':13} clips  wall s   CPU s  clips/s  film/s   x wall    x CPU")
    first: tuple[float, float] | None = None
    for name, runs in results.items():
        wall_s, cpu_s = (statistics.median(getattr(run, clock) for run in runs) for clock in ("wall_s", "cpu_s"))
        first = first or (wall_s, cpu_s)
        clips = runs[-1].num_clips
        print(
            f"  {name:13} {clips:5} {wall_s:7.1f} {cpu_s:7.1f} {clips / wall_s:8.2f} {length_s / wall_s:7.2f} "
            f"{wall_s / first[0]:8.2f} {cpu_s / first[1]:8.2f}"
        )
        if runs[-1].steps:
            print("                " + ", ".join(f"{step} {seconds:.1f}" for step, seconds in runs[-1].steps.items()))


# --- the contestants: a result, or the sentence why there is none


def reelpack(workshop: Workshop, executor: str) -> Result:
    out = workshop.folder / "dataset"
    rules = ["motion", "luminance", "black_fraction", "freeze_fraction", "letterbox_fraction", "flash_rate"]
    settings = [f"score.scorers={MANY_PARTS['score.scorers']}", "dedup.perceptual.enabled=false"]
    settings += [f"select.{rule}={{min: null, max: null}}" for rule in rules]
    command = [sys.executable, "-m", "pipelines.cli", "curate", *map(str, workshop.videos), "--out", str(out)]
    command += ["--executor", executor, *(word for setting in settings for word in ("--set", setting))]
    said, wall_s, cpu_s = workshop.run(command, executor, {"PYTHONPATH": str(ROOT)})
    steps = {name: float(seconds) for name, _, seconds in STEP.findall(said)}
    steps["start, tables"] = wall_s - sum(steps.values())
    num_clips = pq.read_table(out / "shards" / "index.parquet").num_rows
    return Result(num_clips=num_clips, wall_s=wall_s, cpu_s=cpu_s, steps=steps)


def naive(workshop: Workshop) -> Result | str:
    if workshop.ffmpeg is None:
        return "skipped: no ffmpeg on the PATH, and no package imageio-ffmpeg (pip install imageio-ffmpeg)"
    command = [sys.executable, "-m", "benchmarks.naive", str(workshop.folder / "clips"), *map(str, workshop.videos)]
    command += ["--ffmpeg", workshop.ffmpeg, "--scorers", str(MANY_PARTS["score.scorers"])]
    said, wall_s, cpu_s = workshop.run(command, "naive", {"PYTHONPATH": str(ROOT)})
    found = json.loads(said.splitlines()[-1])
    steps = {**found["steps"], "start": wall_s - sum(found["steps"].values())}
    return Result(num_clips=found["clips"], wall_s=wall_s, cpu_s=cpu_s, steps=steps)


def data_juicer(workshop: Workshop) -> Result | str:
    if workshop.data_juicer is None or workshop.ffmpeg is None:
        return "skipped: name its virtual environment with --data-juicer, and have an ffmpeg"
    # It writes its products beside the source.
    copies = [workshop.folder / video.name for video in workshop.videos]
    for video, copy in zip(workshop.videos, copies, strict=True):
        shutil.copyfile(video, copy)
    rows = [{"text": "<__dj__video>", "videos": [str(copy)]} for copy in copies]
    (workshop.folder / "input.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "dataset_path": str(workshop.folder / "input.jsonl"),
        "export_path": str(workshop.folder / "out" / "output.jsonl"),
        "np": os.cpu_count(),
        "use_cache": False,
        "process": [
            {"video_resolution_filter": {"min_width": 64, "min_height": 64}},
            {"video_split_by_scene_mapper": {"detector": "AdaptiveDetector"}},
            {"video_duration_filter": {"min_duration": 1}},
            {"video_motion_score_filter": {"min_score": 0.0}},
        ],
    }
    (workshop.folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    command = [str(workshop.data_juicer / "bin" / "dj-process"), "--config", str(workshop.folder / "recipe.yaml")]
    said, wall_s, cpu_s = workshop.run(command, "data-juicer", {"PATH": workshop_path(workshop)})
    steps = {name: float(seconds) for name, seconds in re.findall(r"OP \[(\w+)\] Done in ([\d.]+)s", said)}
    lines = (workshop.folder / "out" / "output.jsonl").read_text().splitlines()
    num_clips = sum(len(json.loads(line)["videos"]) for line in lines)
    return Result(num_clips=num_clips, wall_s=wall_s, cpu_s=cpu_s, steps=steps)


def nemo_curator(workshop: Workshop) -> Result | str:
    if workshop.nemo_curator is None or workshop.ffmpeg is None or shutil.which("ffprobe") is None:
        return "skipped: name its virtual environment with --nemo-curator, and have ffmpeg and ffprobe"
    videos, out = workshop.folder / "videos", workshop.folder / "out"
    videos.mkdir()
    for video in workshop.videos:
        shutil.copyfile(video, videos / video.name)
    script = str(Path(__file__).with_name("nemo_curator_cpu.py"))
    command = [str(workshop.nemo_curator / "bin" / "python"), script, str(videos), str(out)]
    _, wall_s, cpu_s = workshop.run(command, "nemo-curator", {"PATH": workshop_path(workshop)})
    num_clips = sum(1 for _ in out.rglob("*.mp4"))
    return Result(num_clips=num_clips, wall_s=wall_s, cpu_s=cpu_s)


CONTESTANTS: dict[str, Callable[[Workshop], Result | str]] = {
    "local": lambda workshop: reelpack(workshop, "local"),
    "ray": lambda workshop: reelpack(workshop, "ray"),
    "naive": naive,
    "data-juicer": data_juicer,
    "nemo-curator": nemo_curator,
}


def find_ffmpeg() -> str | None:
    if found := shutil.which("ffmpeg"):
        return found
    try:
        from imageio_ffmpeg import get_ffmpeg_exe
    except ImportError:
        return None
    return str(get_ffmpeg_exe())


def workshop_path(workshop: Workshop) -> str:
    """The PATH with an `ffmpeg` on it, for programs that look for one by that name."""
    assert workshop.ffmpeg is not None
    folder = workshop.folder / "bin"
    folder.mkdir()
    (folder / "ffmpeg").symlink_to(workshop.ffmpeg)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def duration_s(video: Path) -> float:
    with av.open(str(video)) as container:
        return (container.duration or 0) / 1e6


if __name__ == "__main__":
    main()
