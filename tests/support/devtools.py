"""A page in headless Chromium that is driven: opened, asked by scripts, pictured; DevTools protocol over pipes."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.browser import found_browser

LIMIT_S = 30.0
PIPED = """import os, sys
ends = [os.dup(os.dup(int(end))) for end in sys.argv[1:3]]  # above 4, whatever they were
for at, end in enumerate(ends): os.dup2(end, 3 + at)
os.execv(sys.argv[3], sys.argv[3:])"""
"""Ends of pipes become descriptors 3 and 4, where Chromium has the protocol."""


class Tab:
    """One page. What it logs as an error, or throws, is in `problems`."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = os.fdopen(write, "wb", buffering=0), os.fdopen(read, "rb", buffering=0)
        self._rest, self._number, self._session = b"", 0, ""
        self.problems: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol, and its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return dict(answer["result"])

    def open(self, url: str) -> None:
        """Go to a page; returns when it is loaded."""
        loader = self.call("Page.navigate", url=url)["loaderId"]
        while self.call("Page.getFrameTree")["frameTree"]["frame"]["loaderId"] != loader:
            time.sleep(0.02)
        self.until("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """What an expression, or a promise, comes to."""
        asked = {"expression": script, "awaitPromise": True, "returnByValue": True, "userGesture": True}
        found = self.call("Runtime.evaluate", **asked)
        assert "exceptionDetails" not in found, (script, found["exceptionDetails"])
        return found["result"].get("value")

    def until(self, condition: str) -> Any:
        """Wait for an expression to be true."""
        script = f"""new Promise((done, fail) => {{
            const end = Date.now() + {LIMIT_S * 1000}, look = () => {{
              const found = (() => {{ try {{ return {condition}; }} catch {{ return false; }} }})();
              if (found) done(found);
              else if (Date.now() > end) fail(new Error("never true: " + {json.dumps(condition)}));
              else setTimeout(look, 20);
            }};
            look();
          }})"""
        return self.run(script)

    def type(self, selector: str, text: str) -> None:
        """Into a field, in place of what it has."""
        self.run(f"document.querySelector({json.dumps(selector)}).select()")
        self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        self.call("Input.insertText", text=text)

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key)

    def picture(self, to: Path, width: int, height: int, *, is_dark: bool = False) -> None:
        self.size(width, height, is_dark=is_dark)
        data = self.call("Page.captureScreenshot", format="png")["data"]
        to.write_bytes(base64.b64decode(data))

    def size(self, width: int, height: int, *, is_dark: bool = False) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def _next(self) -> Mapping[str, Any]:
        while b"\0" not in self._rest:
            found = os.read(self._read.fileno(), 1 << 16)
            if not found:
                raise RuntimeError("the browser ended")
            self._rest += found
        message, _, self._rest = self._rest.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        params = answer.get("params", {})
        if answer.get("method") == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"])[:2000])
        if answer.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        return answer


@contextmanager
def opened_tab(profile: Path) -> Iterator[Tab]:
    """A browser of its own with one page; skips the test where there is none."""
    binary = found_browser(profile).command[0]
    to_browser, write = os.pipe()
    read, from_browser = os.pipe()
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"]
    flags += ["--hide-scrollbars", "--allow-file-access-from-files", "--autoplay-policy=no-user-gesture-required"]
    flags += ["--remote-debugging-pipe", f"--user-data-dir={profile}"]
    command = [sys.executable, "-SEc", PIPED, str(to_browser), str(from_browser), binary, *flags]
    with subprocess.Popen(
        command, pass_fds=(to_browser, from_browser), stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        for end in (to_browser, from_browser):
            os.close(end)
        try:
            yield Tab(write, read)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
