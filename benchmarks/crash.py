"""Kills `reelpack curate` or `encode` at random moments, runs it to its end, and compares all it wrote with an
undisturbed run.

    python -m benchmarks.crash [--step curate] [--kills 20] [--seed 0] [--victims driver,worker,raylet]
        [--executor ray]

Each kill is `kill -9` of a process that this script started, on a fresh dataset over the same generated corpus; the
moments are spread over the length of an undisturbed run. Then the same command runs again until it ends. Every table,
`clips.parquet`, the indices and every byte of the shards, the latents and the text embeddings must equal those of the
undisturbed run; only how often something was attempted may differ. Exit code 1 where they do not, with the tables and
rows.
"""

import argparse
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.machine import described
from tests.support.corpus import MANY_PARTS, mixed_corpus, shot, write, write_sidecar
from tests.support.processes import Tree, kill
from tests.support.snapshot import Snapshot, differences, digest, leftovers, snapshot

ROOT = Path(__file__).parent.parent

COMMAND = (sys.executable, "-m", "pipelines.cli")
CURATE = ("scan.detector.kind=adaptive", "score.scorers=null", "dedup.perceptual.enabled=false")
"""So that all clips are kept, soon."""
NUM_SHOTS = 150
"""More than two tars of latents hold."""
KINDS = ("driver", "worker", "raylet")
POLL_S = 0.01
WATCH_S = 0.1
MAX_RERUNS = 3

Window = tuple[float, float]
"""From when to when there was a process of a kind, in seconds from the run's first file on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a run ended; `code` is None where it had to be stopped because it hung."""

    code: int | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Crashes:
    """The command under test, and where it works.

    Attributes:
        folder: Of the datasets and of what the runs say.
        command: Without the dataset, which is its last word.
        env: Of its processes.
        template: The dataset that each run begins with; None: none.
        first_file: Pattern of what it writes first, in the dataset.
        limit_s: After so long it hangs.
    """

    folder: Path
    command: Sequence[str]
    env: Mapping[str, str]
    template: Path | None
    first_file: str
    limit_s: float = 600

    def begin(self, out: Path) -> None:
        """A fresh dataset."""
        shutil.rmtree(out, ignore_errors=True)
        if self.template is not None:
            shutil.copytree(self.template, out)

    def start(self, out: Path) -> Tree:
        log = self.folder / f"{out.name}.log"
        return Tree([*self.command, str(out)], env=self.env, cwd=ROOT, log=log)

    def finish(self, tree: Tree) -> Ended:
        while tree.is_running() and tree.seconds < self.limit_s:
            time.sleep(POLL_S)
        return Ended(code=tree.driver.poll(), seconds=tree.seconds)

    def run(self, out: Path) -> Ended:
        with self.start(out) as tree:
            return self.finish(tree)

    def watch(self, out: Path) -> tuple[Ended, dict[str, Window]]:
        """Run to the end, and note when there was something of each kind to kill: seconds from the first file on."""
        seen: dict[str, list[float]] = {}
        with self.start(out) as tree:
            began_s = self.await_first_file(tree, out)
            while tree.is_running():
                for kind in tree.kinds():
                    seen.setdefault(kind, []).append(tree.seconds - began_s)
                time.sleep(WATCH_S)
            ended = self.finish(tree)
        return ended, {kind: (times[0], times[-1]) for kind, times in seen.items()}

    def await_first_file(self, tree: Tree, out: Path) -> float:
        """When the run began to write: a kill before that changes nothing."""
        while tree.is_running() and not any(out.glob(self.first_file)):
            time.sleep(POLL_S)
        return tree.seconds

    def kill_at(self, out: Path, victim: str, moment_s: float) -> tuple[str, Ended] | None:
        """Start a run and kill a process of it that many seconds after its first file; None where it ended before
        there was one to kill. The text says what was killed."""
        with self.start(out) as tree:
            moment_s += self.await_first_file(tree, out)
            while tree.is_running() and (tree.seconds < moment_s or tree.find(victim) is None):
                time.sleep(POLL_S)
            pid = tree.find(victim)
            if pid is None or not tree.is_running():
                return None
            kill(pid)
            at_s, parts = tree.seconds, sum(1 for _ in out.rglob("part-*"))
            ended = self.finish(tree)
        return f"{victim} {pid} at {at_s:.1f} s with {parts} parts", ended


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", choices=["curate", "encode"], default="curate")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--victims", default="driver,worker,raylet", help="taken in turn")
    parser.add_argument("--executor", choices=["ray", "local"], default="ray")
    parser.add_argument("--set", action="append", default=[], help="a setting of the command, section.key=value")
    parser.add_argument("--keep", type=Path, help="an empty folder to work in, kept; none: a temporary one")
    arguments = parser.parse_args()
    victims = arguments.victims.split(",") if arguments.executor == "ray" else ["driver"]
    if unknown := set(victims) - set(KINDS):
        parser.error(f"--victims: got {', '.join(sorted(unknown))}, expected {', '.join(KINDS)}")
    # So that a stop ends the processes too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    print(described())
    # Short, because Ray's sockets lie below it and their paths must fit in 107 bytes.
    with tempfile.TemporaryDirectory(prefix="crash-", ignore_cleanup_errors=True) as temporary:
        folder = arguments.keep or Path(temporary)
        crashes = PREPARE[arguments.step](folder, Path(temporary), arguments.executor, arguments.set)
        sys.exit(0 if run(crashes, arguments.kills, arguments.seed, victims) else 1)


def prepare_curate(folder: Path, ray_folder: Path, executor: str, settings: Sequence[str]) -> Crashes:
    """Make the corpus and the command."""
    videos, sidecar = folder / "videos", folder / "sidecar.csv"
    mixed_corpus(videos)
    write_sidecar(videos, sidecar)
    given = [f"{name}={value}" for name, value in MANY_PARTS.items()] + ["execute.num_cpus=2", *settings]
    command = [*COMMAND, "curate", str(videos), "--sidecar", str(sidecar), "--executor", executor, *as_options(given)]
    return Crashes(
        folder=folder,
        command=[*command, "--out"],
        env=environment(ray_folder),
        template=None,
        first_file="config.yaml",
    )


def prepare_encode(folder: Path, ray_folder: Path, executor: str, settings: Sequence[str]) -> Crashes:
    """Make a dataset of clips and images with texts, enough for several tars, and the command."""
    videos, template, env = folder / "videos", folder / "curated", environment(ray_folder)
    captioned_corpus(videos)
    curate = [*COMMAND, "curate", str(videos), "--executor", "local", "--out", str(template)]
    subprocess.run([*curate, *as_options(CURATE)], env=env, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    given = ["encode.max_area_px=6144", "execute.num_cpus=2", *settings]
    return Crashes(
        folder=folder,
        command=[*COMMAND, "encode", "--executor", executor, *as_options(given)],
        env=env,
        template=template,
        first_file="*/*/fingerprint.json",
    )


PREPARE = {"curate": prepare_curate, "encode": prepare_encode}


def captioned_corpus(folder: Path) -> None:
    """The mixed corpus, and many short shots with texts beside them."""
    mixed_corpus(folder)
    for seed in range(NUM_SHOTS):
        write(folder / f"shot_{seed:03d}.mp4", shot(100 + seed, 1.2))
        (folder / f"shot_{seed:03d}.txt").write_text(f"Colored squares slide to the left, number {seed}.")


def environment(ray_folder: Path) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return env | {"RAY_TMPDIR": str(ray_folder), "PYTHONPATH": str(ROOT)}


def as_options(settings: Sequence[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def run(crashes: Crashes, num_kills: int, seed: int, victims: Sequence[str]) -> bool:
    """All the kills; prints a line for each. True if every dataset came out as the undisturbed one."""
    expected, windows = undisturbed(crashes)
    if missing := set(victims) - windows.keys():
        raise SystemExit(f"the undisturbed run had no process of the kind {', '.join(missing)}")
    rng = np.random.default_rng(seed)
    # One moment in each of as many equal parts of the run, in any order.
    shares = (rng.permutation(num_kills) + rng.random(num_kills)) / num_kills
    num_wrong = 0
    for number, (share, victim) in enumerate(zip(shares, itertools.cycle(victims), strict=False), 1):
        out = crashes.folder / f"kill_{number:03d}"
        start_s, end_s = windows[victim]
        said, wrong = one_kill(crashes, out, victim, start_s + float(share) * (end_s - start_s), expected)
        num_wrong += bool(wrong)
        print(f"{number:3}/{num_kills} {said}: {'DIFFERENT' if wrong else 'equal'}", flush=True)
        for line in wrong:
            print(f"        {line}", flush=True)
    verdict = "all equal to the undisturbed run" if not num_wrong else f"{num_wrong} DIFFER from the undisturbed run"
    print(f"{num_kills} kills: {verdict} ({digest(expected)})")
    return not num_wrong


def undisturbed(crashes: Crashes) -> tuple[Snapshot, dict[str, Window]]:
    """What every run must give, and when there is what to kill."""
    out = crashes.folder / "undisturbed"
    crashes.begin(out)
    ended, windows = crashes.watch(out)
    if ended.code != 0:
        said = (crashes.folder / "undisturbed.log").read_text()[-2000:]
        raise SystemExit(f"the undisturbed run ended with {ended.code}:\n{said}")
    expected = snapshot(out)
    print(f"undisturbed: {ended.seconds:.1f} s, digest {digest(expected)}")
    print("  rows: " + ", ".join(f"{name.removeprefix('tables/')} {len(rows)}" for name, rows in expected.items()))
    return expected, windows


def one_kill(crashes: Crashes, out: Path, victim: str, moment_s: float, expected: Snapshot) -> tuple[str, list[str]]:
    """Kill, finish, compare: what happened, and what differs."""
    killed = None
    while killed is None:  # it ended before its moment came: nearer to the start, on a fresh dataset
        crashes.begin(out)
        killed = crashes.kill_at(out, victim, moment_s)
        moment_s *= 0.9
    said, ended = killed
    if ended.code is None:
        return said, [f"the run hung: not at its end after {ended.seconds:.0f} s"]
    said += f", run ended with {ended.code}" if victim != "driver" else ""
    unfinished = leftovers(out)
    for _ in range(MAX_RERUNS):
        again = crashes.run(out)
        said += f", again {again.code} in {again.seconds:.1f} s"
        if again.code == 0:
            break
    else:
        return said, [f"did not end well in {MAX_RERUNS} runs; see {crashes.folder / out.name}.log"]
    said += f", {unfinished} unfinished files" if unfinished else ""
    return said, differences(expected, snapshot(out))


if __name__ == "__main__":
    main()
