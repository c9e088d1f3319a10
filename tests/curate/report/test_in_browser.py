"""The report in a real browser: it renders at both widths, logs no error, and asks the network for nothing."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curate.report.build import build_report

pytestmark = pytest.mark.browser
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
LIMIT_S = 60
# Headless Chromium makes no window narrower than 500 px, so the phone is an iframe of its width.
PHONE_PX = 400


class Browser:
    """Headless Chromium with a profile of its own; every run is one process that ends by itself."""

    def __init__(self, binary: str, profile: Path) -> None:
        self.command = [binary, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
        self.command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        self.command += ["--disable-dev-shm-usage", "--hide-scrollbars", "--allow-file-access-from-files"]
        self.command += ["--enable-logging=stderr", "--log-level=0", "--virtual-time-budget=5000"]
        self.command += [f"--user-data-dir={profile}"]

    def run(self, page: Path, *flags: str) -> subprocess.CompletedProcess[str]:
        command = [*self.command, *flags, page.as_uri()]
        try:
            done = _run(command)
        except subprocess.TimeoutExpired:  # Chromium's zygote sometimes spins at the start
            done = _run(command)
        done.check_returncode()
        assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line], done.stderr
        return done

    def dom(self, page: Path) -> str:
        return self.run(page, "--dump-dom").stdout

    def picture(self, page: Path, to: Path, width: int, height: int) -> np.ndarray:
        self.run(page, f"--screenshot={to}", f"--window-size={width},{height}")
        return np.asarray(Image.open(to).convert("RGB"))


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run to the end; at the limit end the whole process group, whose helpers would hold the pipes open."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            out, err = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    found = next((path for name in NAMES if (path := shutil.which(name))), None) or os.environ.get("CHROMIUM")
    if found is None:
        pytest.skip(f"no browser: looked for {', '.join(NAMES)} on the PATH (on Debian: apt-get install chromium)")
    return Browser(found, tmp_path_factory.mktemp("profile"))


@pytest.fixture(scope="module")
def page(written) -> Path:
    return Path(build_report(str(written.dataset), [str(written.run)]))


def with_probe(page: Path, to: Path, script: str) -> Path:
    """The page with a script behind its own that writes `document.title`, to read back what the browser computed."""
    to.write_text(page.read_text().replace("</body>", f"<script>{script}</script></body>"))
    return to


def test_counts_are_in_the_rendered_page_and_no_error_is_logged(browser: Browser, page: Path) -> None:
    dom = browser.dom(page)
    text = re.sub(r"<(script|style)>.*?</\1>|<[^>]+>", " ", dom, flags=re.DOTALL)
    assert "8 files (2 unreadable) gave 12 clips: 8 kept, 4 rejected." in text
    assert len(re.findall(r'<article class="clip', dom)) == 15  # 12 clips, 3 samples


def test_a_console_error_would_be_seen(browser: Browser, page: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="planted"):
        browser.dom(with_probe(page, tmp_path / "broken.html", 'throw new Error("planted")'))


def test_no_request_leaves_the_page(browser: Browser, page: Path, tmp_path: Path) -> None:
    script = (
        'const names = performance.getEntriesByType("resource").map(entry => entry.name);'
        'document.title = names.filter(name => !name.startsWith("data:")).join(" ") || "nothing"'
    )
    assert "<title>nothing</title>" in browser.dom(with_probe(page, tmp_path / "probe.html", script))


def test_filtering_by_a_rule_leaves_its_clips(browser: Browser, page: Path, tmp_path: Path) -> None:
    script = (
        "document.querySelector('[data-reason=\"letterbox_fraction.max\"]').click();"
        "document.title = [...document.querySelectorAll('#rejected .clip')].filter(c => !c.hidden).length + ' shown'"
    )
    assert "<title>1 shown</title>" in browser.dom(with_probe(page, tmp_path / "probe.html", script))


def test_sorting_orders_the_cards_by_the_score(browser: Browser, page: Path, tmp_path: Path) -> None:
    script = (
        "const select = document.querySelector('#kept select'); select.value = 'motion';"
        "select.dispatchEvent(new Event('change'));"
        "const values = [...document.querySelectorAll('#kept .clip')].map(c => JSON.parse(c.dataset.values).motion);"
        "document.title = values.length + ' ' + values.every((v, i) => i == 0 || values[i - 1] <= v)"
    )
    assert "<title>8 true</title>" in browser.dom(with_probe(page, tmp_path / "probe.html", script))


def test_pictures_and_videos_are_decoded_by_the_browser(browser: Browser, page: Path, tmp_path: Path) -> None:
    script = (
        "const videos = [...document.querySelectorAll('video')];"
        "const ready = video => video.readyState ||"
        " new Promise(done => { video.onloadedmetadata = done; video.onerror = done; });"
        "Promise.all(videos.map(ready)).then(() =>"
        " document.title = videos.map(video => video.videoWidth + 'x' + video.videoHeight).join())"
    )
    assert "<title>128x80,128x80</title>" in browser.dom(with_probe(page, tmp_path / "probe.html", script))


def test_desk_and_phone_show_pictures_and_scroll_in_one_direction(
    browser: Browser, page: Path, tmp_path: Path
) -> None:
    desk = browser.picture(page, tmp_path / "desk.png", 1280, 2400)
    assert len(np.unique(desk.reshape(-1, 3), axis=0)) > 500, "a page of text and pictures has many colors"
    script = "parent.postMessage(`${document.documentElement.scrollWidth} ${innerWidth}`, '*')"
    probe = with_probe(page, tmp_path / "probe.html", script)
    frame = tmp_path / "phone.html"
    frame.write_text(
        f'<script>onmessage = e => document.title = e.data</script><iframe src="{probe.name}" width="{PHONE_PX}" '
        'height="2400" style="border:0"></iframe>'
    )
    scroll_width, inner_width = re.search(r"<title>(\d+) (\d+)</title>", browser.dom(frame)).groups()
    assert int(inner_width) == PHONE_PX
    assert int(scroll_width) <= PHONE_PX
