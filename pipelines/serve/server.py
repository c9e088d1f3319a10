"""The page over HTTP: its files, what it asks, and the gallery. Standard library alone: docs/decisions/serve.md."""

import json
import logging
import re
import socket
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import curate.report
from pipelines.serve.access import Access, Refused
from pipelines.serve.studio import Studio
from pipelines.serve.uploads import MAX_BYTES

logger = logging.getLogger(__name__)

HERE = Path(__file__).parent
FILES = {
    "/": (HERE / "page.html", "text/html; charset=utf-8"),
    "/page.js": (HERE / "page.js", "text/javascript; charset=utf-8"),
    "/page.css": (HERE / "page.css", "text/css; charset=utf-8"),
    "/report.css": (Path(curate.report.__path__[0]) / "report.css", "text/css; charset=utf-8"),
}
MEDIA_TYPES = {".mp4": "video/mp4", ".png": "image/png"}
MAX_SETTINGS_BYTES = 1 << 16
MOST_ITEMS = 60
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class PageServer(ThreadingHTTPServer):
    """Answers in threads of its own, while another one generates."""

    daemon_threads = True

    def __init__(self, host: str, port: int, access: Access, studio: Studio) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.access, self.studio, self.host = access, studio, host
        super().__init__((host, port), Handler)

    @property
    def url(self) -> str:
        """The address with the token."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.server_address[1]}/?token={self.access.token}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is no error."""
        logger.debug("request of %s ended", client_address, exc_info=True)


class Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "reelpack", ""
    timeout: ClassVar[float] = 30.0  # s that a client may keep silent

    def do_GET(self) -> None:
        self._guarded(self._get)

    def do_POST(self) -> None:
        self._guarded(self._post)

    def do_DELETE(self) -> None:
        self._guarded(self._delete)

    def _guarded(self, answer: Callable[[str, dict[str, str]], None]) -> None:
        """Answer what the page asks; refuse what comes from elsewhere."""
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        access, host = self.server.access, self.headers.get("Host")
        try:
            access.check_host(host)
            if self.command != "GET":
                access.check_origin(self.headers.get("Origin"), host, self.headers.get("Sec-Fetch-Site"))
            given = query.get("token") if parts.path == "/" else None
            access.check_token(given, self.headers.get("Cookie"))
        except Refused as refused:
            self.close_connection = True  # what was sent along is not read
            self._send(HTTPStatus.FORBIDDEN, str(refused).encode(), "text/plain; charset=utf-8")
            return
        answer(parts.path, query)

    def _get(self, path: str, query: dict[str, str]) -> None:
        studio = self.server.studio
        if path in FILES:
            file, kind = FILES[path]
            cookie = {"Set-Cookie": self.server.access.set_cookie} if path == "/" else {}
            self._send(HTTPStatus.OK, file.read_bytes(), kind, {"Cache-Control": "no-store", **cookie})
        elif path == "/api/about":
            self._send_json(studio.about())
        elif path == "/api/state":
            self._send_json(studio.state())
        elif path == "/api/items":
            limit = query.get("limit", "24")
            wanted = min(int(limit), MOST_ITEMS) if re.fullmatch(r"\d{1,4}", limit) else MOST_ITEMS
            self._send_json(studio.items(query.get("before"), wanted))
        elif path.startswith("/media/") and (file := studio.gallery.file(path.removeprefix("/media/"))):  # type: ignore[assignment]
            self._send_media(file)
        else:
            self._send_json({"error": "there is nothing here"}, HTTPStatus.NOT_FOUND)

    def _post(self, path: str, query: dict[str, str]) -> None:
        limits = {"/api/jobs": MAX_SETTINGS_BYTES, "/api/uploads": MAX_BYTES}
        if path not in limits:
            self.close_connection = True
            self._send_json({"error": "there is nothing here"}, HTTPStatus.NOT_FOUND)
            return
        if (body := self._body(limits[path])) is None:
            return
        studio = self.server.studio
        try:
            if path == "/api/uploads":
                self._send_json(studio.uploads.add(body), HTTPStatus.CREATED)
            else:
                self._send_json(studio.ask(json.loads(body)).shown(), HTTPStatus.ACCEPTED)
        except (ValueError, RecursionError) as error:  # JSON that is none, or deeper than anyone means
            self._send_json({"error": str(error)}, HTTPStatus.BAD_REQUEST)

    def _delete(self, path: str, query: dict[str, str]) -> None:
        part, _, name = path.removeprefix("/api/").partition("/")
        if part == "items":
            done, problem = self.server.studio.gallery.remove(name), "this is deleted already"
        elif part == "jobs" and re.fullmatch(r"\d{1,9}", name):
            done, problem = self.server.studio.queue.cancel(int(name)), "this generation has ended already"
        else:
            done, problem = False, "there is nothing here"
        self._send_json({} if done else {"error": problem}, HTTPStatus.OK if done else HTTPStatus.NOT_FOUND)

    def _body(self, limit: int) -> bytes | None:
        """What was sent along; None where that was refused."""
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Transfer-Encoding") or not re.fullmatch(r"\d{1,15}", length):
            status, problem = HTTPStatus.LENGTH_REQUIRED, "expected Content-Length"
        elif int(length) > limit:
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            problem = f"got {int(length):,} bytes; expected at most {limit:,}"
        else:
            return self.rfile.read(int(length))
        self.close_connection = True
        self._send_json({"error": problem}, status)
        return None

    def _send_media(self, file: Path) -> None:
        """A video or a picture, or the part of it that a player wants."""
        data, kind = file.read_bytes(), MEDIA_TYPES[file.suffix]
        headers = {"Accept-Ranges": "bytes", "Cache-Control": "private, max-age=86400"}
        wanted = re.fullmatch(r"bytes=(\d{1,15})-(\d{0,15})", self.headers.get("Range", ""))
        first, last = (int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)) if wanted else (0, -1)
        if first <= last:
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            self._send(HTTPStatus.PARTIAL_CONTENT, data[first : last + 1], kind, headers)
        else:
            self._send(HTTPStatus.OK, data, kind, headers)

    def _send_json(self, values: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        text = json.dumps(values, allow_nan=False).encode()
        self._send(status, text, "application/json", {"Cache-Control": "no-store"})

    def _send(self, status: HTTPStatus, data: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        fixed = {"Content-Type": kind, "Content-Length": str(len(data)), **HEADERS}
        for name, value in {**fixed, **(headers or {})}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the address has the token."""
