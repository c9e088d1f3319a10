"""The report in a real browser: it renders at both widths, logs no error, and asks the network for nothing."""

import re
from pathlib import Path

import numpy as np
import pytest

from curate.report.build import build_report

pytestmark = pytest.mark.browser
# Headless Chromium makes no window narrower than 500 px, so the phone is an iframe of its width.
PHONE_PX = 400


@pytest.fixture(scope="module")
def page(written) -> Path:
    return Path(build_report(str(written.dataset), [str(written.run)], failures=written.failures))


def test_counts_are_in_the_rendered_page_and_no_error_is_logged(browser, page: Path) -> None:
    dom = browser.dom(page)
    text = re.sub(r"<(script|style)\b.*?</\1>|<[^>]+>", " ", dom, flags=re.DOTALL)
    assert "9 files (2 unreadable) gave 13 clips: 8 kept, 5 rejected." in text
    assert len(re.findall(r'<article class="clip', dom)) == 16  # 13 clips, 3 samples


def test_a_console_error_would_be_seen(browser, page: Path) -> None:
    with pytest.raises(AssertionError, match="planted"):
        browser.probe(page, 'throw new Error("planted")')


def test_no_request_leaves_the_page_when_everything_in_it_was_used(browser, page: Path) -> None:
    script = """
        for (const slider of document.querySelectorAll(".sliders .min")) {
          slider.value = 300;
          slider.dispatchEvent(new Event("input"));
        }
        document.querySelectorAll("button").forEach((button) => button.click());
        const names = performance.getEntriesByType("resource").map((entry) => entry.name);
        return names.filter((name) => !name.startsWith("data:"))"""
    assert browser.probe(page, script) == []


def test_search_and_reason_leave_the_cards_that_match_both(browser, page: Path) -> None:
    script = """
        const sheet = document.querySelector("#rejected"), search = sheet.querySelector("input");
        const left = () => [...sheet.querySelectorAll(".clip")].filter((card) => !card.hidden).length;
        const type = (text) => { search.value = text; search.dispatchEvent(new Event("input")); };
        const counts = [left()];
        sheet.querySelector('[data-reason="letterbox_fraction.max"]').click();
        counts.push(left());
        type("TAKE BARS"), counts.push(left());
        type("take static"), counts.push(left());
        sheet.querySelector('[data-reason="letterbox_fraction.max"]').click();
        counts.push(left(), sheet.querySelector(".shown").textContent);
        return counts"""
    assert browser.probe(page, script) == [5, 1, 1, 0, 1, "1 of the 5 clips here"]


def test_sorting_orders_the_cards_by_the_score(browser, page: Path) -> None:
    script = """
        const select = document.querySelector("#kept select");
        select.value = "motion";
        select.dispatchEvent(new Event("change"));
        return [...document.querySelectorAll("#kept .clip")].map((card) => JSON.parse(card.dataset.values).motion)"""
    values = browser.probe(page, script)
    assert len(values) == 8
    assert values == sorted(values)


def test_pictures_and_videos_are_decoded_by_the_browser(browser, page: Path) -> None:
    script = """
        const ready = (video) => video.readyState
          || new Promise((done) => { video.onloadedmetadata = done; video.onerror = done; });
        const videos = [...document.querySelectorAll("video")], images = [...document.querySelectorAll(".copies img")];
        for (const image of images) image.loading = "eager";
        await Promise.all([...videos.map(ready), ...images.map((image) => image.decode())]);
        return [videos.map((one) => [one.videoWidth, one.videoHeight]), images.map((one) => one.naturalWidth)]"""
    assert browser.probe(page, script) == [[[128, 80], [128, 80]], [112, 112, 112]]


def test_desk_and_phone_show_pictures_and_scroll_in_one_direction(browser, page: Path, tmp_path: Path) -> None:
    desk = browser.picture(page, tmp_path / "desk.png", 1280, 2400)
    assert len(np.unique(desk.astype(int) @ (65536, 256, 1))) > 500, "a page of text and pictures has many colors"
    probe = page.with_name("narrow.html")
    script = "<script>parent.postMessage(`${document.documentElement.scrollWidth} ${innerWidth}`, '*')</script></body>"
    probe.write_text(page.read_text().replace("</body>", script))
    frame = page.with_name("phone.html")
    frame.write_text(
        f'<script>onmessage = e => document.title = e.data</script><iframe src="{probe.name}" width="{PHONE_PX}" '
        'height="2400" style="border:0"></iframe>'
    )
    scroll_width, inner_width = re.search(r"<title>(\d+) (\d+)</title>", browser.dom(frame)).groups()
    assert int(inner_width) == PHONE_PX
    assert int(scroll_width) <= PHONE_PX
