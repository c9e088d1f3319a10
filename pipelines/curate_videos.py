"""Raw videos → scored, selected clips → shards. The driver: reads what is stored, subtracts, runs the rest.

Run it as `reelpack curate INPUT... --out DATASET`, or on a cluster as
`ray job submit --working-dir . -- python -m pipelines.curate_videos INPUT... --out DATASET`.
"""

import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curate.cut import CutStage, ShardPlan, ShardWritten
from curate.media.fetch import Staged
from curate.scan import IdentifyStage, Scanned, ScanStage, SourceFile
from curate.schema import RETRYABLE, Clip, Failure
from curate.scores.score import Scored, ScoreItem, ScoreStage
from curate.select import funnel
from curate.store import Table
from pipelines.config import Config
from pipelines.dataset import Dataset
from pipelines.execute import Executor, Needs, executor
from pipelines.progress import track
from pipelines.provenance import provenance
from pipelines.sources import Source, list_sources
from pipelines.tables import clip_of, clip_row, failed_video_row, failure_row, shard_row, video_row

SCORE_BATCH = 4
"""Clips that a score worker takes at a time: enough for a model's batch, small enough to spread over workers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CurateSummary:
    """The dataset after a run of `curate` (inputs, funnel of the clips, index), and what the run did."""

    num_inputs: int
    num_failed_inputs: int
    failures: tuple[Failure, ...]
    funnel: Mapping[str, int]
    num_indexed: int
    num_frames_decoded: int
    seconds: float


def curate(inputs: Sequence[str], out: str, config: Config) -> CurateSummary:
    """Bring DATASET up to date with its inputs and its configuration; what is stored is not computed again.

    Args:
        inputs: files, folders, globs; local paths or fsspec URLs.
        out: the dataset directory; made if it is not there.
        config: the resolved configuration.

    Raises:
        ValueError: the inputs name no file at all.
        OSError: the dataset cannot be written.
    """
    start = time.monotonic()
    sources, unlisted = list_sources(inputs, exclude=out)
    if not sources and not unlisted:
        raise ValueError(f"{', '.join(inputs)}: no files found; give files, folders or globs of videos and images")
    dataset = Dataset(out)
    dataset.make()
    run = CurateRun(dataset, config, shlex.join(["reelpack", "curate", *inputs, "--out", out]))
    with executor(config.execute) as on:
        run.scan(on, sources, unlisted)
        run.score(on)
        decided = run.decide()
        if run.cut(on, decided):
            decided = run.decide()
    # Only now, with the tables complete under these settings, are they what the dataset was made with.
    dataset.save_section("curate", {"inputs": list(inputs), **provenance(), **config.model_dump(mode="json")})
    index = dataset.write_index(config.shards.key)
    outcomes = run.outcomes()
    return CurateSummary(
        num_inputs=len(outcomes),
        num_failed_inputs=outcomes.count("failed"),
        failures=tuple(run.failures),
        funnel=funnel(decided),
        num_indexed=index.num_rows,
        num_frames_decoded=run.num_frames_decoded,
        seconds=time.monotonic() - start,
    )


class CurateRun:
    """One run over one dataset: its steps in order, and what they counted."""

    def __init__(self, dataset: Dataset, config: Config, command: str) -> None:
        self.dataset = dataset
        self.command = command
        self.config = config
        self.scan_key = config.scan.key
        self.num_frames_decoded = 0
        self.failures: list[Failure] = []
        self.score_stage = ScoreStage(config.score)
        self.score_key = "+".join(self.score_stage.families)

    def scan(self, on: Executor, sources: Sequence[Source], unlisted: Sequence[Failure]) -> None:
        """Identify, probe and scan the inputs that are new; equal bytes at two URIs are scanned once."""
        known = {(r["uri"], r["version"]) for r in self._videos() if r["failure"] not in RETRYABLE}
        versions = {source.uri: source for source in sources}
        new = [source for source in sources if (source.uri, source.version) not in known]
        files = [SourceFile(uri=source.uri, path=source.uri, size_bytes=source.size_bytes) for source in new]
        copies: dict[str, list[str]] = {}
        for file, video_id in self._run(on, Staged(IdentifyStage(), "scan"), files, Needs(batch_size=8), "identify"):
            if isinstance(video_id, Failure):
                self._fail_video(video_id, versions[file.uri])
            else:
                copies.setdefault(video_id, []).append(file.uri)
        for failure in unlisted:
            self._fail_video(failure, Source(uri=failure.subject, size_bytes=0, version=""))
        done = {row["video_id"]: row for row in self._ok_videos()}
        for video_id in copies.keys() & done.keys():
            rows = [{**done[video_id], "uri": uri, "version": versions[uri].version} for uri in copies[video_id]]
            self.dataset.videos.publish(rows)
        todo = [
            SourceFile(uri=min(uris), path=min(uris), size_bytes=versions[uris[0]].size_bytes, video_id=video_id)
            for video_id, uris in sorted(copies.items())
            if video_id not in done
        ]

        def publish(results: Sequence[tuple[SourceFile, Scanned]]) -> None:
            clips = [clip_row(clip, self.scan_key) for _, scanned in results for clip in scanned.clips]
            self.dataset.clips.publish(clips)
            self.dataset.videos.publish(
                {**video_row(scanned.video, versions[uri].version, self.scan_key), "uri": uri}
                for _, scanned in results
                for uri in copies[scanned.video.video_id]
            )

        stage = Staged(ScanStage(self.config.scan), "scan")
        results = self._run(on, stage, todo, Needs(batch_size=1), "scan")
        for file, scanned in self._publishing(results, publish):
            if isinstance(scanned, Failure):
                for uri in copies[str(file.video_id)]:
                    failure = Failure(subject=uri, step=scanned.step, kind=scanned.kind, detail=scanned.detail)
                    self._fail_video(failure, versions[uri])
            else:
                self.num_frames_decoded += scanned.num_decoded_frames

    def score(self, on: Executor) -> None:
        """Decode once, for every clip, the frames that the scorers with a missing value need."""
        families = self.score_stage.families
        tables = self._score_tables()
        have = {family: set(table.read()["clip_id"].to_pylist()) for family, table in tables.items()}
        failed = self.dataset.failed({self.score_key})
        todo = []
        for clip in self._clips():
            owed = frozenset(family for family in families if clip.clip_id not in have[family])
            if owed and clip.clip_id not in failed:
                todo.append(ScoreItem(clip=clip, path=clip.video_uri, families=owed))

        def publish(results: Sequence[tuple[ScoreItem, Scored]]) -> None:
            for family, table in tables.items():
                table.publish(
                    {"clip_id": scored.clip_id, **scored.values[family]}
                    for _, scored in results
                    if family in scored.values
                )

        needs = Needs(batch_size=SCORE_BATCH, num_gpus=self.config.execute.gpus_per_worker)
        for _, scored in self._publishing(
            self._run(on, Staged(self.score_stage, "score"), todo, needs, "score"), publish
        ):
            if isinstance(scored, Failure):
                self._fail(scored, self.score_key)
            else:
                self.num_frames_decoded += scored.num_decoded_frames

    def decide(self) -> pa.Table:
        failed = self.dataset.failed({self.score_key, self.config.shards.key})
        return self.dataset.decide(self.scan_key, self._score_tables().values(), failed, self.config.select)

    def cut(self, on: Executor, decided: pa.Table) -> int:
        """Write the kept clips that no shard holds yet, in new shards (none is ever rewritten); returns failures."""
        key = self.config.shards.key
        written = self.dataset.shards.rows()
        have = {row["clip_id"] for row in written if row["cut_key"] == key}
        failed = self.dataset.failed({key})
        rows = {row["clip_id"]: row for row in decided.to_pylist() if row["decision"] == "keep"}
        clips = [clip for clip in self._clips() if clip.clip_id in rows.keys() - have - failed]
        plans = list(self._shard_plans(clips, {id: row["split"] for id, row in rows.items()}, written))

        def publish(results: Sequence[tuple[ShardPlan, ShardWritten]]) -> None:
            self.dataset.shards.publish(
                shard_row(clip, shard.plan.split, key) for _, shard in results for clip in shard.clips
            )

        num_failed = 0
        results = self._run(on, CutStage(self.config.shards), plans, Needs(), "cut")
        for _, shard in self._publishing(results, publish):
            num_failed += len(shard.failures)
            for failure in shard.failures:
                self._fail(failure, key)
            self.num_frames_decoded += sum(clip.num_frames for clip in shard.clips)
        return num_failed

    def outcomes(self) -> list[str]:
        """How each input file of the dataset ended, `ok` or `failed`."""
        return [row["outcome"] for row in self._videos()]

    def _shard_plans(
        self, clips: Sequence[Clip], splits: Mapping[str, str], written: Iterable[Mapping[str, Any]]
    ) -> Iterator[ShardPlan]:
        last: dict[str, int] = {}
        for row in written:
            split, number = row["shard"].removesuffix(".tar").rsplit("-", 1)
            last[split] = max(last.get(split, -1), int(number))
        size = self.config.shards.clips_per_shard
        for split in ("train", "val"):
            members = sorted((clip for clip in clips if splits[clip.clip_id] == split), key=lambda clip: clip.clip_id)
            for number, start in enumerate(range(0, len(members), size), last.get(split, -1) + 1):
                url = f"{self.dataset.shards_url}/{split}-{number:06d}.tar"
                yield ShardPlan(url=url, split=split, clips=tuple(members[start : start + size]))

    def _videos(self) -> list[dict[str, Any]]:
        return [row for row in self.dataset.videos.rows() if row["scan_key"] == self.scan_key]

    def _ok_videos(self) -> list[dict[str, Any]]:
        return [row for row in self._videos() if row["outcome"] == "ok"]

    def _clips(self) -> list[Clip]:
        """Every clip of the readable inputs, each to be read from the first of its equal copies."""
        uris: dict[str, str] = {}
        for row in self._ok_videos():
            uris.setdefault(row["video_id"], row["uri"])
        rows = [row for row in self.dataset.clips.rows() if row["scan_key"] == self.scan_key]
        return [clip_of(row, uris[row["video_id"]]) for row in rows if row["video_id"] in uris]

    def _score_tables(self) -> dict[str, Table]:
        return {family: self.dataset.scores(family, columns) for family, columns in self.score_stage.families.items()}

    def _run(
        self, on: Executor, stage: Any, items: Sequence[Any], needs: Needs, name: str
    ) -> Iterator[tuple[Any, Any]]:
        return track(on.run(stage, items, needs), len(items), name)

    def _publishing(
        self, results: Iterable[tuple[Any, Any]], publish: Callable[[Sequence[tuple[Any, Any]]], None]
    ) -> Iterator[tuple[Any, Any]]:
        """Pass results through; publish the successful ones every `publish_every_s` and at the end."""
        waiting: list[tuple[Any, Any]] = []
        last = time.monotonic()
        for item, outcome in results:
            yield item, outcome
            if not isinstance(outcome, Failure):
                waiting.append((item, outcome))
            if time.monotonic() - last > self.config.execute.publish_every_s:
                publish(waiting)
                waiting, last = [], time.monotonic()
        publish(waiting)

    def _fail_video(self, failure: Failure, source: Source) -> None:
        self._fail(failure, self.scan_key)
        self.dataset.videos.publish([failed_video_row(failure, source.version, self.scan_key, source.size_bytes)])

    def _fail(self, failure: Failure, key: str) -> None:
        self.failures.append(failure)
        self.dataset.failures.publish([failure_row(failure, key, self.command)])


if __name__ == "__main__":
    from pipelines.cli import main

    main(["curate", *sys.argv[1:]])
