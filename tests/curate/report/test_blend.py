"""The captions of a run on its page."""

import re
from pathlib import Path

import pytest

from curate.report.blend import blend
from curate.report.build import build_report
from curate.report.run import build_run_report
from train.estimate.blend import BlendForecast, LevelForecast


def level(name: str, tokens: tuple[int, ...], **facts: float | int) -> LevelForecast:
    values = {"weight": 0.5, "expected": 0.5, "drawn": 0.5, "num_cut": 0, "median_tokens": 8, "most_tokens": 30}
    return LevelForecast(level=name, tokens=tokens, num_texts=sum(tokens), **(values | facts))


def write(run: Path, *levels: LevelForecast) -> None:
    BlendForecast(
        levels=levels,
        num_samples=2000,
        captioned=0.85,
        dropped=0.1,
        uncaptioned=0.05,
        max_tokens=24,
        edges=(8, 16, 24),
        clips={"video": (0, 40), "image": (1200, 1250)},
    ).write(run)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    dense = level("dense", (0, 5, 80, 15), drawn=0.634, expected=0.6316, weight=0.6, num_cut=15)
    short = level("short", (90, 0, 0, 0), drawn=0.366, expected=0.3684, weight=0.35)
    write(tmp_path, dense, short, level("original", (0, 0, 0, 0), drawn=0.0, expected=0.0, weight=0.05))
    return tmp_path


def test_the_page_of_a_run_has_planned_and_drawn_shares_and_tokens(run: Path) -> None:
    page = Path(build_run_report(str(run))).read_text()
    section = page[page.index('id="captions"') :]
    assert re.findall(r"<b>([\d.]+%)</b><span class=\"muted\">(.*?)</span>", section) == [
        ("63.4%", "expected 63.2%, weight 60%"),
        ("36.6%", "expected 36.8%, weight 35%"),
        ("0.0%", "expected 0.0%, weight 5%"),
    ]
    assert "have none of the blend; 0 of 40 videos have one; 1,200 of 1,250 images have one." in section
    assert "100 texts by tokens, 15 cut off at 24" in section and "90 texts by tokens<" in section
    bars = re.findall(r"<title>(.*?): (\d+)</title>", section)
    dense = [("1 to 8 tokens", "0"), ("9 to 16 tokens", "5"), ("17 to 24 tokens", "80"), ("over 24 tokens", "15")]
    assert bars == [*dense, ("1 to 8 tokens", "90"), ("9 to 16 tokens", "0"), ("17 to 24 tokens", "0")]
    heights = [float(height) for height in re.findall(r'<rect .*?height="([\d.]+)"', section)]
    assert heights[2] > heights[3] > heights[1] > heights[0] == 0


def test_the_page_of_a_dataset_shows_the_captions_of_its_runs(run: Path, written) -> None:
    page = Path(build_report(str(written.dataset), [str(run), str(written.run)])).read_text()
    assert 'id="captions-0"' in page and 'id="captions-1"' not in page


def test_a_run_without_captions_says_so(tmp_path: Path) -> None:
    assert blend(str(tmp_path)) == ""
    write(tmp_path, level("dense", (0, 0, 0, 0)))
    assert "every sample is trained under the null caption" in blend(str(tmp_path))


@pytest.mark.browser
def test_the_bars_can_be_seen(browser, run: Path, tmp_path: Path) -> None:
    path = Path(build_run_report(str(run)))
    for width in (1280, 500):
        assert browser.picture(path, tmp_path / f"{width}.png", width, 900).std() > 5
    assert browser.dom(path).count("<rect") == 7
