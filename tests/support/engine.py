"""Generated rows of scanned videos and clips, and the steps of `curate` on them with scorers that do nothing."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import pyarrow as pa

from curate.dataset.dataset import Dataset
from curate.dataset.scans import clips_of
from curate.dataset.schemas import CLIPS
from curate.dedup.frame_hash import TICKS_PER_SECOND
from curate.report.build import build_report
from curate.scan import ScanKeys
from curate.schema import Failure, FailureKind, Span, clip_id, content_digest
from curate.scores.score import Scored, ScoreItem, ScoreStage
from pipelines.config import load_config
from pipelines.execute.build import open_executor
from pipelines.steps.decide import decide, read_stored
from pipelines.steps.run import CurateRun
from pipelines.steps.score import score

CLIPS_PER_VIDEO = 100
CLIP_S = 3
FPS = 24
COPY_FRACTION = 0.02


class NoScorers:
    """A score stage whose scorers return numbers made from the clip's id: 4 columns, and an embedding if asked for."""

    step = "score"
    reads: Mapping[str, str] = MappingProxyType({})

    def __init__(self, embedding_dim: int) -> None:
        self.embedding_dim = embedding_dim

    @property
    def families(self) -> dict[str, dict[str, pa.DataType]]:
        numbers = {f"nothing_{n}-{'0' * 12}": {f"nothing_{n}": pa.float64()} for n in range(4)}
        if not self.embedding_dim:
            return numbers
        return {**numbers, f"embedding-{'0' * 12}": {"embedding": pa.list_(pa.float32(), self.embedding_dim)}}

    def setup(self) -> None:
        pass

    def process(self, items: Sequence[ScoreItem]) -> list[Scored | Failure]:
        return [self._score(item.clip.clip_id) for item in items]

    def give_up(self, item: ScoreItem, kind: FailureKind, detail: str, attempts: int) -> Failure:
        return Failure(subject=item.clip.clip_id, step=self.step, kind=kind, detail=detail, attempts=attempts)

    def _score(self, name: str) -> Scored:
        rng = np.random.default_rng(int(name[:16], 16))
        values: dict[str, dict] = {f"nothing_{n}-{'0' * 12}": {f"nothing_{n}": float(rng.random())} for n in range(4)}
        if self.embedding_dim:
            vector = rng.normal(size=self.embedding_dim)
            values[f"embedding-{'0' * 12}"] = {"embedding": (vector / np.linalg.norm(vector)).tolist()}
        return Scored(clip_id=name, values=values, num_decoded_frames=0)


Timed = Callable[[str], AbstractContextManager[None]]


def run_steps(
    folder: str, num_clips: int, kind: str, embedding_dim: int, timed: Timed
) -> tuple[Mapping[str, int], Path]:
    """Fill a dataset, and run score, select, index and report on it.

    Args:
        folder: the dataset is made in it.
        num_clips: generated rows of the clips table.
        kind: executor, `local` or `ray`.
        embedding_dim: each clip also gets an embedding of so many numbers; 0: none.
        timed: each part runs inside `timed(name)`.

    Returns:
        The funnel, and the page of the report.
    """
    config = load_config(overrides=[f"execute.executor={kind}", "execute.num_cpus=2", "score.scorers=null"])
    dataset, stage = Dataset(f"{folder}/dataset"), NoScorers(embedding_dim)
    videos, clips = scanned_rows(num_clips, ScanKeys(config.scan).of("film.mp4"))
    with timed("publish videos and clips"):
        dataset.clips.publish(clips)
        dataset.videos.publish(videos)
    run = CurateRun(dataset, config, "reelpack retry", {row["uri"]: row["version"] for row in videos})
    with timed("read the clips to score"):
        to_score = clips_of(dataset, config.scan)
    with timed(f"score, {kind} executor"), open_executor(config.execute) as executor:
        score(run, executor, to_score, cast(ScoreStage, stage))  # it has all that is asked of one
    with timed("read, join, find duplicates"):
        stored = read_stored(dataset, config, stage.families)
    with timed("select"):
        counts = decide(dataset, stored, config, stage.families)
    made_with = {"families": list(stage.families), **config.model_dump(mode="json")}
    dataset.save_section("curate", {"inputs": [], **made_with})
    with timed("index"):
        dataset.write_index(config.shards.key)
    with timed("report"):
        page = Path(build_report(dataset.url))
    scored = dataset.scores(*next(iter(stage.families.items()))).read().num_rows
    assert counts["clips"] == scored == num_clips, f"got {counts['clips']} decided and {scored} scored clips"
    return counts, page


def scanned_rows(num_clips: int, scan_key: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the videos and the clips tables: films of 100 clips of 3 s, a few of which are copies."""
    rng = np.random.default_rng(0)
    ticks, time_base = CLIP_S * FPS * 512, Fraction(1, FPS * 512)
    videos, clips = [], []
    hashes = rng.integers(1, 2**64, (num_clips, CLIP_S * TICKS_PER_SECOND), dtype=np.uint64)
    copies, originals = np.split(rng.permutation(num_clips)[: 2 * round(COPY_FRACTION * num_clips)], 2)
    hashes[copies] = hashes[originals] ^ np.uint64(5)  # two bits of 64 differ
    signals = [field.name for field in CLIPS if pa.types.is_floating(field.type)]
    # Shares of black, frozen and covered time are small where a film is any good.
    values = rng.random((num_clips, len(signals))) ** [20 if "fraction" in name else 1 for name in signals]
    for number in range(num_clips):
        video, place = divmod(number, CLIPS_PER_VIDEO)
        video_id = content_digest(f"video {video}")
        if place == 0:
            length = min(CLIPS_PER_VIDEO, num_clips - number)
            videos.append(_video(video, video_id, scan_key, length * CLIP_S))
        span = Span(start_pts=place * ticks, end_pts=(place + 1) * ticks, time_base=time_base)
        known = {
            "clip_id": clip_id(video_id, span),
            "video_id": video_id,
            "scan_key": scan_key,
            "kind": "video",
            "start_pts": span.start_pts,
            "end_pts": span.end_pts,
            "time_base": str(time_base),
            "fps": str(FPS),
            "width": 1280,
            "height": 720,
            "num_frames": CLIP_S * FPS,
            "frame_hashes": hashes[number].tobytes(),
        }
        clips.append({**dict(zip(signals, values[number].tolist(), strict=True)), **known})
    return videos, clips


def _video(number: int, video_id: str, scan_key: str, duration_s: float) -> dict[str, Any]:
    return {
        "uri": f"/films/{number:06d}.mp4",
        "version": "1",
        "scan_key": scan_key,
        "outcome": "ok",
        "video_id": video_id,
        "size_bytes": round(duration_s * 500_000),
        "kind": "video",
        "width": 1280,
        "height": 720,
        "fps": str(FPS),
        "duration_s": float(duration_s),
    }
