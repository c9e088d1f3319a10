"""Trouble at every point at which a command changes a dataset, one after the other: it is killed, or the disk is full
or read-only from then on. Then the same command runs again, and its dataset must be that of an undisturbed run.

A point is a file that is opened for writing, renamed or removed below the dataset; Python itself tells of them (its
audit events). `python -m benchmarks.commit_points` takes every point.
"""

import errno
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq

from curate.dataset.dataset import Dataset
from tests.support.corpus import shot, write
from tests.support.encoded import encoded
from tests.support.forks import forks
from tests.support.latents import LATENTS_RECORD
from tests.support.snapshot import differences, leftovers, snapshot
from tests.support.vlm_checkpoints import write_checkpoint

Trouble = Literal["kill", "full", "read-only"]
COMMANDS = ("curate", "select", "caption", "encode", "forget")
TROUBLES: tuple[Trouble, ...] = ("kill", "full", "read-only")
ERRORS = {"full": errno.ENOSPC, "read-only": errno.EROFS}
LIMIT_S = 120
SETTINGS = {
    "curate": [
        "scan.detector.kind=adaptive",
        "score.scorers=null",
        "shards.clips_per_shard=2",
        "execute.publish_every_s=1e-9",
    ],
    "caption": [
        *("caption.backend.device=cpu", "caption.frames.num_frames=1", "caption.short_max_tokens=4"),
        *("caption.dense_max_tokens=4", "caption.batch_size=1", "execute.publish_every_s=1e-9"),
    ],
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a command ended: its exit code, negative for a signal, what it said, and how many points it passed."""

    code: int
    said: str
    num_points: int


class Points:
    """Small inputs, and the datasets that each command begins with and should end with.

    Args:
        folder: an empty one to work in.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.videos = folder / "videos"
        self.videos.mkdir()
        for seed in range(3):
            write(self.videos / f"{seed}.mp4", np.concatenate([shot(2 * seed, 1.2), shot(2 * seed + 1, 1.2)]))
        (self.videos / "text.mp4").write_text("no video")
        (folder / "nothing").mkdir()
        self._curated = self._after("curate", folder / "nothing", "curated")
        self._captioned = Path(shutil.copytree(self._curated, folder / "captioned"))
        caption(self._captioned)
        self._encoded = Path(shutil.copytree(self._captioned, folder / "encoded"))
        dataset = Dataset(str(self._encoded))
        clips = sorted(dataset.read_index()["clip_id"].to_pylist())
        encoded(dataset, "latents", LATENTS_RECORD, clips, clips[:3])

    @cached_property
    def _model(self) -> Path:
        return write_checkpoint("llava", self.folder / "model")

    def all(self, command: str, trouble: Trouble, every: int = 1) -> Iterator[tuple[int, list[str]]]:
        """Each point, and what is wrong after it; nothing where all is well."""
        begin = {"curate": self.folder / "nothing", "encode": self._captioned, "forget": self._encoded}.get(
            command, self._curated
        )
        expected = content(self._after(command, begin, f"{command} undisturbed"))
        point = 1
        while True:
            out = self._fresh(begin)
            ended = self.run(command, out, trouble, point)
            if ended.num_points < point:
                return
            yield point, [f"point {point}: {line}" for line in self._judge(command, out, trouble, ended, expected)]
            point += every

    def run(self, command: str, out: Path, trouble: Trouble | None = None, point: int = 0) -> Ended:
        """One command in a process of its own."""
        return run_apart(self._words(command, out), out, trouble, point)

    def _judge(
        self, command: str, out: Path, trouble: Trouble, ended: Ended, expected: dict[str, dict[str, str]]
    ) -> list[str]:
        wrong = []
        if trouble == "kill" and ended.code != -signal.SIGKILL:
            wrong.append(f"ended with {ended.code}: {ended.said[-500:]}")
        if trouble != "kill":
            if ended.code not in (0, 2) or "Traceback" in ended.said:  # 0: what failed was but the tidying up
                wrong.append(f"ended with {ended.code} and no plain message: {ended.said[-2000:]}")
            if num := leftovers(out) if trouble == "full" else 0:
                wrong.append(f"left {num} unfinished files")
        again = self.run(command, out)
        if again.code != 0:
            wrong.append(f"run again it ended with {again.code}: {again.said[-2000:]}")
        return wrong + differences(expected, content(out))

    def _words(self, command: str, out: Path) -> list[str]:
        settings = {
            "curate": [str(self.videos), "--out", str(out), "--executor", "local"],
            "select": [str(out), "--set", "select.rules.duration_s.min=0.5"],
            "caption": [str(out), "--executor", "local", "--set", f"caption.backend.model={self._model}"],
            "forget": [str(out), str(self.videos / "0.mp4")],
            "encode": [str(out), "--set", "encode.max_area_px=6144", "--set", "encode.autoencoder.device=cpu"],
        }[command]
        own = [word for setting in SETTINGS.get(command, ()) for word in ("--set", setting)]
        return [command, *settings, *own]

    def _after(self, command: str, begin: Path, name: str) -> Path:
        out = self._fresh(begin, name)
        ended = self.run(command, out)
        if ended.code != 0:
            raise SystemExit(f"undisturbed, {command} ended with {ended.code}:\n{ended.said}")
        return out

    def _fresh(self, begin: Path, name: str = "dataset") -> Path:
        out = self.folder / name
        shutil.rmtree(out, ignore_errors=True)
        return Path(shutil.copytree(begin, out))


def run_apart(words: Sequence[str], out: Path, trouble: Trouble | None, point: int) -> Ended:
    """Run a command line in a process of its own that gets into trouble at a point (None: nowhere)."""
    with tempfile.TemporaryDirectory() as folder:
        said, count = Path(folder) / "said", Path(folder) / "count"
        process = forks().Process(target=_run, args=(list(words), str(out), trouble, point, str(said), str(count)))
        process.start()
        process.join(LIMIT_S)
        if process.exitcode is None:
            process.kill()
            process.join()
            return Ended(code=-signal.SIGALRM, said="it hung", num_points=point)
        num_points = int(count.read_text()) if count.exists() else point
        return Ended(code=process.exitcode, said=said.read_text(), num_points=num_points)


def _run(words: list[str], out: str, trouble: Trouble | None, point: int, said: str, count: str) -> None:
    from pipelines.cli import main as command_line

    hook = Hook(out, trouble, point)
    with open(said, "w") as stream, redirect_stdout(stream), redirect_stderr(stream):
        sys.addaudithook(hook)
        try:
            from pipelines.console.progress import console
            from pipelines.console.tables import out as printed

            console.file, printed.file = stream, stream
            command_line(words)
        finally:
            hook.is_over = True
            Path(count).write_text(str(hook.num_points))


class Hook:
    """Counts the points below a folder, and makes the trouble at one of them and after."""

    def __init__(self, folder: str, trouble: Trouble | None, point: int) -> None:
        self.folder, self.trouble, self.point = folder, trouble, point
        self.num_points = 0
        self.is_over = False

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.is_over or not self._is_point(event, arguments):
            return
        self.num_points += 1
        if self.trouble is None or self.num_points < self.point:
            return
        if self.trouble == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trouble == "read-only" or event != "os.remove":  # on a full disk files can be removed
            number = ERRORS[self.trouble]
            raise OSError(number, os.strerror(number), str(arguments[0]))

    def _is_point(self, event: str, arguments: tuple[object, ...]) -> bool:
        if event not in ("open", "os.rename", "os.remove") or not str(arguments[0]).startswith(self.folder):
            return False
        return event != "open" or bool(int(str(arguments[2])) & (os.O_WRONLY | os.O_RDWR))


def content(out: Path) -> dict[str, dict[str, str]]:
    """What `tests.support.snapshot` gives, and of latents and text embeddings what their indices point at."""
    found = {name: dict(rows) for name, rows in snapshot(out).items()}
    for path in sorted(out.glob("[lt]*/*/index.parquet")):
        rows = pq.read_table(path).to_pylist()
        found[str(path.relative_to(out))] = {row["clip_id"]: f"{row['digest']} {row['media_digest']}" for row in rows}
    return found


def caption(out: Path) -> None:
    """Captions as a captioner writes them, for every clip."""
    from curate.dataset.schemas import CAPTIONS
    from pipelines.dataset import config_of

    dataset = Dataset(str(out))
    facts = dict.fromkeys(CAPTIONS.names, "") | {"frame_indices": [0], "frame_times_s": [0.0], "level": "short"}
    facts |= {"num_prompt_tokens": 1, "num_output_tokens": 1, "max_tokens": 8, "status": "ok"}
    facts |= dict.fromkeys(("findings", "earlier", "parents", "windows"), ()) | {"variant": 0, "attempt": 1}
    facts |= {"provenance": {"backend": "test", "model": "test"}}
    dataset.captions("made-1").publish(
        {**facts, "clip_id": row["clip_id"], "media_digest": row["digest"], "text": f"clip {row['clip_id']}"}
        for row in dataset.read_index().to_pylist()
    )
    dataset.save_section("caption_family", "made-1")
    dataset.write_index(config_of(dataset).shards.key)
