"""A report beside another decision: that of a version, or of another dataset."""

import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from curate.dataset.dataset import Dataset
from curate.dataset.versions import record
from curate.report.against import NOT_THERE, Against, packed
from curate.report.build import build_report
from curate.report.compared import compared, line_of
from curate.report.data import DatasetView, read_dataset
from curate.report.explorer import DECISIONS
from curate.report.finder import Search, find
from curate.rules import Rule
from pipelines.inspection.against import against, choices
from tests.curate.report.conftest import POLICY, Written, made_with, policy

STRICT = policy(**{**POLICY.rules, "motion": Rule(min=0.03), "luminance": Rule()})
"""Another policy than that of the dataset as it was written: more motion, any brightness."""


def decide_as_now(folder: Path) -> None:
    """Change decisions as `STRICT` would: what is too dark is kept, one in two kept clips is rejected."""
    clips = pq.read_table(folder / "clips.parquet").to_pylist()
    kept = 0
    for row in clips:
        if any(reason.startswith("luminance") for reason in row["reasons"]):
            row |= {"decision": "keep", "reasons": []}
        elif row["decision"] == "keep":
            kept += 1
            row |= {"decision": "reject", "reasons": ["motion.min"]} if kept % 2 else {}
    pq.write_table(pa.Table.from_pylist(clips, pq.read_schema(folder / "clips.parquet")), folder / "clips.parquet")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, "curate": made_with(STRICT)}))


@pytest.fixture(scope="module")
def versioned(written: Written, tmp_path_factory: pytest.TempPathFactory) -> DatasetView:
    """Version 1 is the dataset as it was written, version 2 the dataset as it is."""
    folder = Path(shutil.copytree(written.dataset, tmp_path_factory.mktemp("versions") / "meadow"))
    record(Dataset(str(folder)), "reelpack curate films")
    decide_as_now(folder)
    record(Dataset(str(folder)), "reelpack select meadow")
    return read_dataset(str(folder))


@pytest.fixture(scope="module")
def other(written: Written, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Another dataset: the clips as they were written without the first two, one of its own, twice the motion."""
    folder = Path(shutil.copytree(written.dataset, tmp_path_factory.mktemp("other") / "second & last"))
    clips = pq.read_table(folder / "clips.parquet")
    rows = [{**row, "motion": row["motion"] and row["motion"] * 2} for row in clips.to_pylist()[2:]]
    rows.append({**rows[0], "clip_id": "f" * 32, "decision": "keep", "reasons": []})
    pq.write_table(pa.Table.from_pylist(rows, clips.schema), folder / "clips.parquet")
    return str(folder)


def by_hand(view: DatasetView, theirs: dict[str, str], which: str) -> list[int]:
    here = view.clips["decision"].to_pylist()
    there = [theirs.get(clip_id) for clip_id in view.clips["clip_id"].to_pylist()]
    holds = {
        "any": lambda a, b: b is not None and a != b,
        "here": lambda a, b: a == "keep" and b != "keep",
        "there": lambda a, b: a != "keep" and b == "keep",
        "absent": lambda a, b: b is None,
    }[which]
    return [row for row, pair in enumerate(zip(here, there, strict=True)) if holds(*pair)]


@pytest.mark.parametrize("what", ["version", "dataset"])
def test_clips_are_found_by_what_the_other_decides(
    versioned: DatasetView, other: str, written: Written, what: str
) -> None:
    found = against(versioned, "1" if what == "version" else other)
    source = written.dataset if what == "version" else Path(other)
    clips = pq.read_table(source / "clips.parquet", columns=["clip_id", "decision"]).to_pylist()
    theirs = {row["clip_id"]: row["decision"] for row in clips}
    counts = {}
    for which in ("any", "here", "there", "absent"):
        rows = find(versioned, Search.of({"differ": which}, versioned), None, found).tolist()
        assert rows == by_hand(versioned, theirs, which), which
        counts[which] = len(rows)
    assert counts["any"] and counts["here"] and counts["there"]
    assert counts["absent"] == (0 if what == "version" else 2)
    assert len(found.beyond) == (0 if what == "version" else 1)
    html = compared(found)
    chips = dict(re.findall(r'data-differ="(\w+)">([\d,]+) [^<]*</button>', html))
    assert chips == {which: str(count) for which, count in counts.items() if count}
    assert ("only in second &amp; last, 1 of them kept" in html) == (what == "dataset")


def test_a_card_tells_what_the_other_decides_and_by_which_bound(versioned: DatasetView) -> None:
    newest, first = against(versioned, "2"), against(versioned, "1")
    assert "Both decide every clip the same" in compared(newest) and not newest.masks["any"].any()
    rejected = find(versioned, Search(differ="there"), None, first)[0]
    row = versioned.clips.slice(int(rejected), 1).to_pylist()[0]
    (there,) = newest.rows([row["clip_id"]]).values()
    assert line_of(newest, row, there).endswith('<code class="reason">motion.min 0.03</code></p>')
    assert 'data-differs=""' in line_of(newest, row, there)
    (there,) = first.rows([row["clip_id"]]).values()
    assert 'data-differs="any there">version 1: <b class="keep">kept</b>' in line_of(first, row, there)
    assert 'data-differs="absent"' in line_of(first, row, None)
    assert "select.rules.motion.min=0.002" in compared(first)


def test_what_is_laid_over_the_histograms_are_the_other_s_own_clips(versioned: DatasetView, other: str) -> None:
    version, dataset = packed(against(versioned, "1")), packed(against(versioned, other))
    assert version["columns"] is None, "the values are those of the page"
    assert version["decisions"]["length"] == dataset["decisions"]["length"] == versioned.clips.num_rows
    assert (
        dataset["kept"]["length"] == dataset["columns"]["motion"]["numbers"]["length"] == versioned.clips.num_rows - 1
    )
    assert NOT_THERE == -1 and DECISIONS[0].as_py() == "keep", "as in against.js"


def test_choices_are_the_versions_and_what_was_asked_for(versioned: DatasetView, other: str, tmp_path: Path) -> None:
    assert list(choices(versioned, other)) == [other, "2", "1"]
    assert choices(versioned)["1"] == "version 1: reelpack curate films"
    with pytest.raises(ValueError, match="it has 1 to 2"):
        against(versioned, "7")
    with pytest.raises(ValueError, match="reelpack curate INPUT"):
        against(versioned, str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="expected one of any"):
        Search.of({"differ": "some"}, versioned)


def test_a_page_in_a_file_has_the_clips_that_differ(versioned: DatasetView) -> None:
    asked: list[Against] = []
    page = Path(
        build_report(versioned.url, against=lambda shown: asked.append(against(shown, "1")) or asked[0])
    ).read_text()
    section = page.split('<section id="compared">')[1].split("</section>")[0]
    differing = int((asked[0].masks["any"] | asked[0].masks["here"]).sum())
    assert section.count('<article class="clip') == differing > 0
    assert section.count('data-differs="any') == differing
    assert 'id="against-data"' in page
    np.testing.assert_array_equal(asked[0].codes, against(versioned, "1").codes)
