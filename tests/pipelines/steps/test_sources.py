"""Files of several shot detectors in one dataset: what is scanned, decided, shown and verified."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from curate.dataset.dataset import Dataset
from curate.media.encode import encode_mp4
from curate.scan import ScanStage, SourceFile
from curate.shots.span_lists import MissingList
from pipelines.config import Config, load_config
from pipelines.drivers.curate import CurateSummary, curate
from pipelines.drivers.select import select
from pipelines.estimate.plan_curation import plan
from pipelines.inspection.explain import explain, files_named
from pipelines.inspection.failures import standing_failures
from pipelines.inspection.status import status
from pipelines.inspection.verify import verify
from tests.support.videos import FPS, moving

NO_MODELS = ("scan.detector.kind=adaptive", "score.scorers=null", "execute.executor=local")
NUM_FRAMES = 3 * FPS
STRIDE = "{kind: stride, length_s: 1, min_last_s: 0.5}"


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """A film of two shots, the same bytes in two folders, and a broken file."""
    film = encode_mp4(np.concatenate([moving(1, 2), moving(2, 1)]), FPS)
    for name in ("first/a.mp4", "second/a.mp4", "second/broken.mp4"):
        path = tmp_path / "films" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(film[:400] if "broken" in name else film)
    return tmp_path / "films"


def config(*sources: str) -> Config:
    return load_config(overrides=[*NO_MODELS, f"scan.sources=[{', '.join(sources)}]"])


def source(match: str, detector: str = STRIDE) -> str:
    return f"{{match: {match}, detector: {detector}}}"


def spans(out: Path) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for clip in pq.read_table(out / "clips.parquet").to_pylist():
        found.setdefault(clip["video_uri"].split("films/")[-1], []).append((clip["start_s"], clip["end_s"]))
    return found


@pytest.fixture
def curated(films: Path, tmp_path: Path) -> tuple[CurateSummary, Path]:
    out = tmp_path / "dataset"
    return curate([str(films)], str(out), config(source("second/*"))), out


def test_equal_bytes_with_two_detectors_have_the_clips_of_both_and_each_once(
    curated: tuple[CurateSummary, Path], films: Path
) -> None:
    summary, out = curated
    assert spans(out) == {"first/a.mp4": [(0, 2), (2, 3)], "second/a.mp4": [(0, 1), (1, 2)]}
    ids = pq.read_table(out / "clips.parquet")["clip_id"].to_pylist()
    assert len(set(ids)) == len(ids) == 4, "the span that both give is one clip"
    assert (summary.num_inputs, summary.num_failed_inputs) == (3, 1)
    assert not [problem for check in verify(str(out), None) for problem in check.problems]
    again = curate([str(films)], str(out), config(source("second/*")))
    assert again.num_frames_decoded == 0 and again.num_indexed == summary.num_indexed


def test_files_and_clips_are_explained_by_their_own_detector(curated: tuple[CurateSummary, Path]) -> None:
    out = str(curated[1])
    (of_first,), (of_second,) = files_named(out, "first/a.mp4"), files_named(out, "second/a.mp4")
    times = [[(clip["start_s"], clip["end_s"]) for clip in story.clips] for story in (of_first, of_second)]
    assert times == [[(0, 2), (2, 3)], [(0, 1), (1, 2), (2, 3)]]
    story = explain(out, next(clip["clip_id"] for clip in of_second.clips if clip["start_s"] == 1))
    assert story.place == (2, 3) and len(story.uris) == 2
    assert status(out).inputs == {"ok": 2, "truncated": 1}
    (failure,) = standing_failures(Dataset(out))
    assert failure["subject"].endswith("broken.mp4")


def test_a_failure_under_a_detector_that_a_file_no_longer_has_does_not_stand(
    curated: tuple[CurateSummary, Path], films: Path
) -> None:
    out = curated[1]
    curate([str(films)], str(out), config(source("second/*", "{kind: whole}")))
    assert len(Dataset(str(out)).failures.rows()) == 2
    (failure,) = standing_failures(Dataset(str(out)))
    assert failure["subject"].endswith("broken.mp4")


def test_a_new_source_scans_the_files_that_it_matches_alone_and_its_removal_none(
    curated: tuple[CurateSummary, Path], films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = curated[1]
    (films / "first/b.mp4").write_bytes(encode_mp4(moving(5, 3), FPS))
    before = curate([str(films)], str(out), config(source("second/*")))
    scanned = list[str]()
    process = ScanStage.process

    def noted(stage: ScanStage, items: Sequence[SourceFile]) -> list[Any]:
        scanned.extend(Path(item.uri).name for item in items if "broken" not in item.uri)
        return process(stage, items)

    monkeypatch.setattr(ScanStage, "process", noted)
    other = source("b.mp4", "{kind: stride, length_s: 1.5, min_last_s: 0}")
    curate([str(films)], str(out), config(other, source("second/*")))
    assert scanned == ["b.mp4"] and spans(out)["first/b.mp4"] == [(0, 1.5), (1.5, 3)]
    scanned.clear()
    back = curate([str(films)], str(out), config(source("second/*")))
    assert not scanned and back.funnel == before.funnel and spans(out)["first/b.mp4"] == [(0, 3)]


def test_commands_that_read_need_no_list_where_each_file_has_one_scan(films: Path, tmp_path: Path) -> None:
    listed, out = tmp_path / "shots.csv", str(tmp_path / "dataset")
    listed.write_text("start_s,end_s,video\n0,1,second/a.mp4\n1,3,second/a.mp4\n")
    detector = f"{{kind: spans, path: {listed}, unlisted: whole}}"
    curate([str(films)], out, config(source("second/*", detector)))

    def told() -> tuple[Any, ...]:
        select(out)
        found = status(out)
        return found.inputs, found.funnel, files_named(out, "a.mp4"), standing_failures(Dataset(out)), spans(Path(out))

    before = told()
    listed.unlink()
    assert told() == before and len(before[-1]["second/a.mp4"]) == 2
    with pytest.raises(MissingList, match=r"shots\.csv: there is no such list"):
        curate([str(films)], out, config(source("second/*", detector)))


def test_where_a_file_has_two_scans_the_list_that_is_gone_is_named(films: Path, tmp_path: Path) -> None:
    listed, out = tmp_path / "shots.csv", str(tmp_path / "dataset")
    for middle in (1, 2):
        listed.write_text(f"start_s,end_s,video\n0,{middle},second/a.mp4\n{middle},3,second/a.mp4\n")
        curate([str(films)], out, config(source("second/*", f"{{kind: spans, path: {listed}, unlisted: whole}}")))
    listed.unlink()
    with pytest.raises(MissingList, match=r"shots\.csv: there is no such list"):
        status(out)


def test_a_source_that_takes_no_input_is_told(films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    curate([str(films)], str(tmp_path / "dataset"), config(source("third/*"), source("second/*")))
    told = capsys.readouterr()
    assert "scan.sources: third/* takes none of 3 inputs" in told.out + told.err
    assert "second/* takes none" not in told.out + told.err


def test_a_plan_runs_excerpts_with_the_detector_of_their_file(films: Path) -> None:
    short = source("second/*", "{kind: stride, length_s: 0.25, min_last_s: 0}")
    planned = plan([str(films / "second/a.mp4")], config(short), num_sampled=1, excerpt_s=1.0)
    assert 9 <= planned.clips.value <= 15, "twelve in 3 s; by content there are two"
