"""A training run as a page of its own."""

import re
from pathlib import Path

import pytest

from curate.report.run import build_run_report


@pytest.fixture(scope="module")
def page(written) -> str:
    return Path(build_run_report(str(written.run))).read_text()


def test_the_page_has_a_curve_per_timestep_and_a_row_per_bin(page: str) -> None:
    ramps = re.findall(r'<polyline class="(ramp-\d)"', page)
    assert ramps == ["ramp-0", "ramp-2", "ramp-4", "ramp-6", "ramp-8"]
    table = re.search(r'<table class="losses">.*?</table>', page, re.DOTALL)
    assert table
    rows = re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td>(.*?)</tr>", table[0])
    assert [row[:3] for row in rows[:3]] == [
        ("image", "0-256 px", "3"),
        ("2-4 s", "0-256 px", "3"),
        ("2-4 s", "256-512 px", "3"),
    ]
    assert rows[2][3] == "<td>–</td>" * 5
    assert "ranks waiting" not in page and "waiting for the loader" in page


def test_samples_are_shown_caption_by_caption_over_steps(page: str) -> None:
    section = page[page.index('id="previews"') : page.index('id="samples"')]
    assert "a &lt;b&gt;bold&lt;/b&gt; disc" in section and "a disc at dusk" in section
    steps = [int(step) for step in re.findall(r"<figcaption>step (\d+)</figcaption>", section)]
    assert len(steps) == 12 and steps[:6] == steps[6:] == sorted(set(steps[:6])) and {20, 200} < set(steps)
    assert section.count("data:image/jpeg;base64,") == 12


def test_skipped_steps_name_their_clips(page: str) -> None:
    assert "<dt>skipped steps</dt><dd>1</dd>" in page
    assert "step 77: the loss of <code>bad&lt;clip&gt;</code> was no number" in page


def test_the_page_asks_for_nothing_and_is_small(page: str) -> None:
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert len(page) < 400_000


def test_a_run_that_has_logged_nothing_has_a_page(tmp_path: Path) -> None:
    assert "no metrics.jsonl" in Path(build_run_report(str(tmp_path))).read_text()


@pytest.mark.browser
def test_the_page_fits_a_window_and_a_phone(browser, page: str, written, tmp_path: Path) -> None:
    path = written.run / "report.html"
    for width in (1280, 500):
        picture = browser.picture(path, tmp_path / f"{width}.png", width, 1800)
        assert picture.std() > 5
    assert browser.dom(path).count('class="copy"') == 12
