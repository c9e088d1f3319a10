"""A headless Chromium that looks at pages; tests with it are skipped where there is none."""

import json
import os
import re
import shutil
import signal
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curate.schema import content_digest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
LIMIT_S = 60


class Browser:
    """Headless Chromium with a profile of its own; every run is one process that ends by itself."""

    def __init__(self, binary: str, profile: Path) -> None:
        self.command = [binary, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
        self.command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        self.command += ["--disable-dev-shm-usage", "--hide-scrollbars", "--allow-file-access-from-files"]
        self.command += ["--enable-logging=stderr", "--log-level=0", "--virtual-time-budget=5000"]
        self.command += [f"--user-data-dir={profile}"]

    def run(self, page: Path | str, *flags: str) -> subprocess.CompletedProcess[str]:
        command = [*self.command, *flags, page.as_uri() if isinstance(page, Path) else page]
        try:
            done = _run(command)
        except subprocess.TimeoutExpired:  # Chromium's zygote sometimes spins at the start
            done = _run(command)
        done.check_returncode()
        assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line], done.stderr
        return done

    def dom(self, page: Path | str) -> str:
        return self.run(page, "--dump-dom").stdout

    def probe(self, page: Path, script: str) -> Any:
        """What a script behind the page's own returns, once the explorer stands."""
        title = f"document.title = JSON.stringify(await (async (explorer) => {{ {script} }})(explorer))"
        behind = f"<script>explorerReady.then(async (explorer) => {{ {title} }})</script></body>"
        probe = page.with_name(f"probe-{content_digest(script)[:8]}.html")
        probe.write_text(page.read_text().replace("</body>", behind))
        found = re.search(r"<title>(.*?)</title>", self.dom(probe), re.DOTALL)
        assert found
        return json.loads(unescape(found[1]))

    def picture(self, page: Path | str, to: Path, width: int, height: int) -> np.ndarray:
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


def found_browser(profile: Path) -> Browser:
    found = next((path for name in NAMES if (path := shutil.which(name))), None) or os.environ.get("CHROMIUM")
    if found is None:
        pytest.skip(f"no browser: looked for {', '.join(NAMES)} on the PATH (on Debian: apt-get install chromium)")
    return Browser(found, profile)
