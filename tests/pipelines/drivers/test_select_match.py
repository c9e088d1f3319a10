"""A rule on the text–clip score, which is known after `caption` only: it rejects, and nothing waits for it."""

import json
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caption.record import Finding
from curate.dataset.captions import CaptionStatus, matches, text_id
from curate.dataset.schemas import CAPTIONS
from curate.report.build import build_report
from pipelines.config import load_config
from pipelines.drivers.curate import curate
from pipelines.drivers.review import review
from pipelines.drivers.select import select
from pipelines.inspection.explain import explain
from pipelines.inspection.status import status
from tests.support.curated import SETTINGS, caption, copied, curated

RULE = "select.rules.caption_match.min=0.2"


def found(value: float | None) -> list[Finding]:
    return [Finding(code="caption_match", status=CaptionStatus.OK, detail="match", value=value)]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return curated(tmp_path_factory.mktemp("match"))


@pytest.fixture
def made(films: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    """Of the two clips of the index, `low` matches its dense caption badly, and the other one its short caption."""
    made = copied(films, tmp_path)
    low, good = made.dataset.read_index()["clip_id"].to_pylist()
    for clip_id, short, dense in ((low, 0.3, 0.1), (good, 0.1, 0.3)):
        caption(made.dataset, ["short", "short.1"], clips=[clip_id], findings=found(short))
        caption(made.dataset, ["dense"], clips=[clip_id], findings=found(dense))
    return SimpleNamespace(**vars(made), low=low, good=good)


def indexed(made: SimpleNamespace) -> list[str]:
    return made.dataset.read_index()["clip_id"].to_pylist()


def test_a_badly_matched_clip_leaves_the_index_and_comes_back_with_its_captions(made: SimpleNamespace) -> None:
    index = made.dataset.read_index()
    result = select(made.url, overrides=[RULE])
    assert (result.num_indexed, result.num_frames_decoded) == (1, 0) and indexed(made) == [made.good]
    clips = made.dataset.read_clips()
    row = next(row for row in clips.to_pylist() if row["clip_id"] == made.low)
    assert (row["caption_match"], row["reasons"]) == (0.1, ["caption_match.min"])
    counts = status(made.url).funnel
    decisions = ("keep", "reject", "pending", "failed")
    assert counts["reject:caption_match.min"] == 1 and counts["clips"] == sum(counts.get(n, 0) for n in decisions)
    measure = next(one for one in explain(made.url, made.low).measures if one.name == "caption_match")
    assert (measure.value, measure.verdict, measure.family) == (0.1, "fails", "test-1")
    assert "caption_match" in Path(build_report(made.url)).read_text()
    select(made.url, overrides=["select.rules.caption_match=null"])
    assert made.dataset.read_index().equals(index)


def test_reruns_of_curate_and_of_the_captioner_keep_it_out(made: SimpleNamespace) -> None:
    select(made.url, overrides=[RULE])
    caption(made.dataset, ["dense"], findings=found(0.4))  # of the index, as `caption` does
    assert indexed(made) == [made.good]
    curate([str(made.films)], made.url, load_config(overrides=[*SETTINGS, RULE]))
    assert indexed(made) == [made.good]


def test_a_new_dataset_is_cut_under_the_rule(made: SimpleNamespace, tmp_path: Path) -> None:
    result = curate([str(made.films)], str(tmp_path / "new"), load_config(overrides=[*SETTINGS, RULE]))
    assert result.num_indexed == 2
    story = explain(str(tmp_path / "new"), made.low)
    assert {one.name: one.verdict for one in story.measures}["caption_match"] == "passes"


def test_captions_without_the_score_and_those_of_another_captioner_reject_nothing(made: SimpleNamespace) -> None:
    caption(made.dataset, ["dense"], family="other-1", findings=[])
    assert select(made.url, overrides=[RULE]).num_indexed == 2


def test_what_a_person_wrote_is_not_judged_by_the_score_of_another_text(made: SimpleNamespace) -> None:
    of_text = text_id(made.low, "dense", f"dense, a longer caption of {made.low}")
    line = {"clip_id": made.low, "level": "dense", "variant": 0, "text_id": of_text}
    line |= {"action": "edit", "text": "A square moves"}
    file = made.out.parent / "review.jsonl"
    file.write_text(json.dumps(line) + "\n")
    review(made.url, str(file))
    assert select(made.url, overrides=[RULE]).num_indexed == 2


def test_findings_of_an_earlier_reelpack_have_no_number(made: SimpleNamespace) -> None:
    earlier = pa.list_(pa.struct([(name, pa.string()) for name in ("code", "status", "detail")]))
    place = CAPTIONS.get_field_index("findings")
    table = made.dataset.captions("test-1")
    for path in (made.out / "tables/captions/test-1").iterdir():
        stored = pq.read_table(path)
        names = ("code", "status", "detail")
        rows = [[{name: one[name] for name in names} for one in row] for row in stored["findings"].to_pylist()]
        pq.write_table(stored.set_column(place, "findings", pa.array(rows, earlier)), path)
    assert matches(table.read()).to_pylist() == [
        {"clip_id": clip_id, "caption_match": None} for clip_id in sorted((made.low, made.good))
    ]
