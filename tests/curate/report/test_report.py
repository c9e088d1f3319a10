"""The report as text: what it counts, what it leaves out, and that nothing in it leaves the page."""

import json
import re
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.dataset.schemas import PUBLIC_COLUMNS, VIDEOS
from curate.dataset.store import Table
from curate.report.build import build_report
from curate.report.charts import nice_ticks, smoothed, thinned, tick_label
from curate.report.columns import pack_column
from curate.report.data import FACTS, DatasetView, read_dataset
from curate.report.finder import Search, find
from curate.report.overlay import overlay
from curate.report.sheets import cards_of, choose
from curate.scores.config import SCORERS
from curate.signals.config import SIGNALS


@pytest.fixture(scope="module")
def page(written) -> str:
    return Path(build_report(str(written.dataset), [str(written.run)], failures=written.failures)).read_text()


def bar(page: str, label: str) -> int:
    found = re.search(rf'<span class="label">{label}</span>.*?<b>([\d,]+)</b>', page)
    assert found, label
    return int(found[1].replace(",", ""))


def test_funnel_adds_up(page: str) -> None:
    assert bar(page, "files in") == 9
    assert bar(page, "read as video") == 7
    assert bar(page, "shots found") == 13
    assert bar(page, "kept") == 8
    assert bar(page, "cut into shards") == 8
    assert bar(page, "captioned") == 7
    assert bar(page, "encoded") == 5
    assert bar(page, "<code>motion.min</code>") == 3
    assert "1 by this rule alone" in page


def test_failures_are_counted_by_kind_with_what_to_do(page: str, written) -> None:
    table = page.split('<table class="failures">')[1].split("</table>")[0]
    rows = [re.sub(r"<[^>]+>", "|", row) for row in table.split("<tr>")[2:]]
    assert sorted(re.findall(r"\w+", row)[0] for row in rows) == ["io", "not_media", "truncated"]
    by_kind = {re.findall(r"\w+", row)[0]: row for row in rows}
    assert escape("notes <b>.mp4") in by_kind["not_media"]
    assert f"reelpack retry {written.dataset} --kind not_media" in by_kind["not_media"]
    assert "the same bytes will fail again" in by_kind["not_media"]
    assert "may pass on another attempt" in by_kind["io"]
    assert "gone.mp4" in by_kind["io"], "the clip is named by its file and time"


def test_of_many_failures_some_are_examples_and_all_are_counted(tmp_path: Path, written) -> None:
    for name in ("clips.parquet", "config.yaml"):
        (tmp_path / name).write_bytes((written.dataset / name).read_bytes())
    rows = [failure(f"/films/{number:05d}.mp4", "timeout") for number in range(1234)]
    page = Path(build_report(str(tmp_path), failures=rows)).read_text()
    assert "<td>1,234</td>" in page
    assert 3 < len(re.findall(r"films/\d+\.mp4", page)) < 100


def failure(subject: str, kind: str) -> dict[str, object]:
    row = {"subject": subject, "step": "scan", "key": "k", "kind": kind, "detail": "took 60 s", "attempts": 1}
    return {**row, "retryable": True, "retry_command": "reelpack retry here"}


def test_nothing_leaves_the_page(page: str) -> None:
    targets = re.findall(r'(?:src|href|action|poster)\s*=\s*["\']([^"\']*)', page)
    targets += re.findall(r"url\(([^)]*)\)", page)
    assert len(targets) > 20
    assert {target.split(":")[0] for target in targets if not target.startswith("#")} == {"data"}
    assert not re.search(r"https?://|@import", re.sub(r"data:[\w/]+;base64,[\w+/=]+", "", page))


def test_texts_of_models_and_file_names_cannot_become_markup(page: str, written) -> None:
    assert escape(written.hostile_caption) in page
    assert re.findall("<script[^>]*>", page) == ['<script type="application/json" id="explorer-data">', "<script>"]
    assert "<b>.mp4" not in page


def test_each_shown_clip_has_pictures_or_says_why_not(page: str) -> None:
    assert page.count('<article class="clip" data-clip') == 13
    assert page.count("--strip:url(data:image/jpeg;base64,") == 15  # 8 kept, 4 rejected, 3 samples
    missing = re.findall(r"no picture: [^<]*", page)
    assert len(missing) == 1
    assert "gone.mp4" in missing[0]


def test_the_page_of_the_same_tables_is_the_same(written, page: str) -> None:
    assert Path(build_report(str(written.dataset), [str(written.run)], failures=written.failures)).read_text() == page


def test_a_dataset_that_is_only_curated_has_a_page(written, tmp_path: Path) -> None:
    clips = pq.read_table(written.dataset / "clips.parquet")
    rejected = clips.filter(pa.compute.equal(clips["decision"], "reject"))
    pq.write_table(rejected, tmp_path / "clips.parquet")
    page = Path(build_report(str(tmp_path))).read_text()
    assert bar(page, "kept") == 0
    assert "No clip was kept" in page


def test_files_that_another_version_scanned_are_counted(written, tmp_path: Path) -> None:
    rows = Table(str(written.dataset / "tables" / "videos"), VIDEOS, ["uri", "scan_key"]).rows()
    Table(str(tmp_path / "tables" / "videos"), VIDEOS, ["uri", "scan_key"]).publish(
        {**row, "scan_key": "of another version"} for row in rows
    )
    for name in ("clips.parquet", "config.yaml"):
        (tmp_path / name).write_bytes((written.dataset / name).read_bytes())
    page = Path(build_report(str(tmp_path))).read_text()
    assert (bar(page, "files in"), bar(page, "read as video")) == (9, 7)


def test_every_public_column_is_shown_as_a_fact_or_a_number() -> None:
    assert set(PUBLIC_COLUMNS) - FACTS == {"duration_s", "short_side_px", "bitrate", "balance_weight"}
    assert set(PUBLIC_COLUMNS) >= FACTS


def test_every_column_of_every_scorer_and_signal_is_known_as_built_in(written) -> None:
    view, given = read_dataset(str(written.dataset)), {}
    for member in (*SCORERS, *SIGNALS):
        given |= {name: column.type for name, column in member.columns.items()}
    columns = {name: pa.nulls(view.clips.num_rows, kind) for name, kind in given.items()}
    both = pa.table({**{name: view.clips[name] for name in view.clips.column_names if name not in given}, **columns})
    shown = replace(view, clips=both)
    texts = {name for name, kind in given.items() if kind == pa.string()}
    assert shown.own_names() == ["title"]
    assert set(shown.text_scores()) == texts >= {"audio_codec", "clip_label"}
    assert set(shown.numbers()) >= {name for name, kind in given.items() if kind == pa.float64()}


def test_a_label_is_among_the_values_of_a_card_and_is_searched(written) -> None:
    view = read_dataset(str(written.dataset))
    labels = pa.array([f"label & {row}" for row in range(view.clips.num_rows)])
    view = replace(view, clips=view.clips.append_column("clip_label", labels))
    rows = view.clips.to_pylist()[:1]
    (card,) = cards_of(view, rows, {}, {rows[0]["clip_id"]: "no picture"}, [], {})
    assert "<dt>clip_label</dt><dd>label &amp; 0</dd>" in card.partition("<summary>more</summary>")[2]
    assert "clip_label" not in card.partition("<summary>more</summary>")[0]
    assert find(view, Search(q="label & 3")).tolist() == [3]


def test_the_user_s_own_columns_are_on_the_cards(page: str, written) -> None:
    kept = page.split('<section id="kept">')[1].split("</section>")[0]
    assert kept.count('<dl class="own"><div><dt>title</dt>') == 8
    assert f"<dd>{escape(written.hostile_caption)}</dd>" in kept
    assert "<dd>Take meadow</dd>" in kept


def test_copies_stand_side_by_side_with_what_decided(page: str) -> None:
    section = page.split('<section id="duplicates">')[1].split("</section>")[0]
    assert "3 clips are in 1 group of copies; 1 of them would be kept without a better copy." in section
    assert "kept for a higher bitrate than the next best" in section
    states = re.findall(r'<figure class="copy (\w+)">.*?<b>(.*?)</b>', section)
    assert states == [("keep", "kept"), ("duplicate", "copy"), ("reject", "motion.min freeze_fraction.max")]
    assert section.count('loading="lazy"') == 3


def test_a_dataset_from_before_duplicates_were_found_has_a_page(written, tmp_path: Path) -> None:
    clips = pq.read_table(written.dataset / "clips.parquet").drop_columns(["duplicate_group", "duplicate_of"])
    pq.write_table(clips, tmp_path / "clips.parquet")
    page = Path(build_report(str(tmp_path))).read_text()
    assert 'id="duplicates"' not in page
    assert 'id="explorer-data"' in page


def test_samples_show_their_prompts_and_training_its_figures(page: str) -> None:
    assert "a disc over a meadow" in page
    assert page.count("data:video/mp4;base64,") == 2
    assert "<dt>caption loss true</dt><dd>0.51</dd>" in page
    assert "<dt>caption loss shuffled</dt><dd>0.5234</dd>" in page
    assert "99.2 %" in page


def test_a_run_that_has_logged_nothing_is_named(written, tmp_path: Path) -> None:
    page = Path(build_report(str(written.dataset), [str(tmp_path / "empty-run")])).read_text()
    assert "empty-run has no metrics.jsonl" in page


def test_a_folder_without_a_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"clips\.parquet is not there.*reelpack curate"):
        build_report(str(tmp_path))


def test_chosen_clips_cover_every_reason_and_keep_their_order() -> None:
    reasons = [["common", "rare"]] * 100 + [["rare"]]
    chosen = choose(reasons, 10)
    assert len(chosen) == 10
    assert chosen == sorted(set(chosen))
    assert chosen[-1] == 100
    assert max(chosen[:-1]) - min(chosen) > 80, "spread over all, not the first ones"
    assert choose(reasons, 1000) == list(range(101))


def test_a_rounded_score_takes_under_four_characters_of_the_page_per_clip() -> None:
    rng = np.random.default_rng(0)
    scores = np.round(rng.normal(0.2, 0.05, 20_000), 5)
    few = rng.integers(0, 400, 20_000) / 24
    for values in (scores, few):
        column = pack_column(pa.chunked_array([pa.array(values, mask=rng.random(20_000) < 0.1)]))
        assert len(json.dumps(column)) < 4 * len(values)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.7, 9.1), (1e-5, 3e-5), (999, 1001), (0, 250_000)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 6
    assert all(low - 1e-9 * abs(low) <= tick <= high + 1e-9 * abs(high) for tick in ticks)
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[0])
    assert f"{steps[0]:.0e}"[0] in "125"


@pytest.mark.parametrize(("low", "high"), [(2.0371, 2.0412), (0, 1e-6), (0, 5), (1e5, 3e5), (-0.02, 0.03)])
def test_ticks_have_labels_of_their_own(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    labels = [tick_label(tick, ticks) for tick in ticks]
    assert len(set(labels)) == len(labels)
    assert np.allclose([float(label.replace(",", "")) for label in labels], ticks)


def test_mean_of_the_last_values_is_drawn() -> None:
    points = [(float(x), float(x * x)) for x in range(10)]
    naive = [np.mean([y for _, y in points[max(0, i - 2) : i + 1]]) for i in range(10)]
    assert np.allclose([y for _, y in smoothed(points, 3)], naive)


def test_thinned_curves_end_where_the_run_ended() -> None:
    points = [(float(x), 0.0) for x in range(10_001)]
    assert len(thinned(points, 100)) <= 102
    assert thinned(points, 100)[-1] == points[-1]
    assert thinned(points[:5]) == points[:5]


@pytest.mark.parametrize(
    "select",
    [
        {"rules": {"motion": {"min": 0.5}}, "split": {}},
        {"motion": {"min": 0.5, "max": None}, "text_match": {"min": None, "max": None}, "split": {}},  # before 0.2
    ],
)
def test_the_rules_that_an_earlier_version_saved_are_read(select: dict) -> None:
    view = DatasetView(
        url="", config={"curate": {"select": select}}, num_files=0, num_failed_files=0, num_forgotten=0, failures=[],
        clips=pa.table({}), index=pa.table({}), encoded=frozenset(), captions=pa.table({}),
    )  # fmt: skip
    assert view.bounds("motion") == (0.5, None) and view.bounds("text_match") == (None, None)


def test_runs_are_overlaid_with_a_curve_of_each(written, tmp_path: Path) -> None:
    other, silent = tmp_path / "<second>", tmp_path / "silent"
    for run, rows in ((other, [(1, 2.0), (2, 1.25)]), (silent, [])):
        run.mkdir()
        lines = [json.dumps({"step": step, "loss": loss}) for step, loss in rows]
        (run / "metrics.jsonl").write_text("\n".join(lines))
    page = overlay([str(written.run), f"{other}/", str(silent)])
    training_loss = page[page.index("<b>training loss") : page.index("<b>learning rate")]
    assert training_loss.count('<polyline class="run-0"') == training_loss.count('<polyline class="run-1"') == 1
    assert page.count('<polyline class="run-1"') == 1, "it logged nothing else"
    assert "&lt;second&gt;</td><td>2</td><td>–</td><td>1.25</td>" in page and "silent" not in page
    assert overlay([str(written.run), str(silent)]) == ""
