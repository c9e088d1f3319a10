"""The report as text: what it counts, what it leaves out, and that nothing in it leaves the page."""

import re
from html import escape
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.report.build import build_report, choose
from curate.report.charts import histogram, nice_ticks, smoothed, thinned, tick_label
from curate.report.data import FACTS
from pipelines.tables import PUBLIC_COLUMNS


@pytest.fixture(scope="module")
def page(written) -> str:
    return Path(build_report(str(written.dataset), [str(written.run)])).read_text()


def bar(page: str, label: str) -> int:
    found = re.search(rf'<span class="label">{label}</span>.*?<b>([\d,]+)</b>', page)
    assert found, label
    return int(found[1].replace(",", ""))


def test_funnel_adds_up(page: str) -> None:
    assert bar(page, "files in") == 8
    assert bar(page, "read as video") == 6
    assert bar(page, "shots found") == 12
    assert bar(page, "kept") == 8
    assert bar(page, "cut into shards") == 8
    assert bar(page, "captioned") == 7
    assert bar(page, "encoded") == 5
    assert bar(page, "<code>motion.min</code>") == 3
    assert "1 by this rule alone" in page


def test_every_failed_file_is_listed_with_its_kind(page: str) -> None:
    assert "broken.mp4" in page
    assert "truncated" in page
    assert escape("notes <b>.mp4") in page


def test_a_failure_stands_until_its_result_is_there(page: str) -> None:
    assert "read timed out" in page
    assert "reelpack curate again" in page
    assert "a retry has succeeded" not in page


def test_nothing_leaves_the_page(page: str) -> None:
    targets = re.findall(r'(?:src|href|action|poster)\s*=\s*["\']([^"\']*)', page)
    targets += re.findall(r"url\(([^)]*)\)", page)
    assert len(targets) > 20
    assert {target.split(":")[0] for target in targets if not target.startswith("#")} == {"data"}
    assert not re.search(r"https?://|@import", re.sub(r"data:[\w/]+;base64,[\w+/=]+", "", page))


def test_texts_of_models_and_file_names_cannot_become_markup(page: str, written) -> None:
    assert escape(written.hostile_caption) in page
    assert page.count("<script>") == 1
    assert "<b>.mp4" not in page


def test_each_shown_clip_has_pictures_or_says_why_not(page: str) -> None:
    assert page.count('<article class="clip" data-reasons') == 12
    assert page.count("--strip:url(data:image/jpeg;base64,") == 14  # 8 kept, 3 rejected, 3 samples
    missing = re.findall(r"no picture: [^<]*", page)
    assert len(missing) == 1
    assert "gone.mp4" in missing[0]


def test_the_page_of_the_same_tables_is_the_same(written, page: str) -> None:
    assert Path(build_report(str(written.dataset), [str(written.run)])).read_text() == page


def test_a_dataset_that_is_only_curated_has_a_page(written, tmp_path: Path) -> None:
    clips = pq.read_table(written.dataset / "clips.parquet")
    rejected = clips.filter(pa.compute.equal(clips["decision"], "reject"))
    pq.write_table(rejected, tmp_path / "clips.parquet")
    page = Path(build_report(str(tmp_path))).read_text()
    assert bar(page, "kept") == 0
    assert "No clip was kept" in page


def test_every_public_column_is_shown_as_a_fact_and_no_score() -> None:
    assert set(PUBLIC_COLUMNS) == FACTS


def test_a_score_that_never_varies_is_a_line_and_no_chart(page: str) -> None:
    assert "The same for every clip: duration_s 2." in page
    assert "<figcaption><b>motion</b></figcaption>" in page
    assert "<figcaption><b>duration_s</b>" not in page


def test_samples_show_their_prompts_and_training_its_figures(page: str) -> None:
    assert "a disc over a meadow" in page
    assert page.count("data:video/mp4;base64,") == 2
    assert "0.5100 / 0.5234" in page
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


def test_histogram_counts_every_value_once() -> None:
    values = np.array([0.0, 0.1, 0.1, 0.5, 1.0])
    drawn = histogram(values, values[:2], (0.3, None))
    counts = [tuple(map(int, pair)) for pair in re.findall(r": (\d+) kept, (\d+) not", drawn)]
    assert [sum(column) for column in zip(*counts, strict=True)] == [5, 2]
    assert "min 0.3" in drawn


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
