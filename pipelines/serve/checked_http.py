"""What every page that reelpack serves shares: checked requests, answers with their headers, parts of media.

Standard library alone: docs/decisions/serve.md.
"""

import json
import logging
import re
import socket
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from pipelines.serve.access import Access, Refused

logger = logging.getLogger(__name__)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
MAX_PART_BYTES = 4 << 20
"""Of one answer to a player; it asks for what follows."""
MEDIA_TYPES = {"mp4": "video/mp4", "png": "image/png"}
NO_STORE = {"Cache-Control": "no-store"}


class CheckedServer(ThreadingHTTPServer):
    """Answers each request in a thread of its own.

    Raises:
        OSError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, access: Access, handler: type["CheckedHandler"]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.access, self.host = access, host
        try:
            super().__init__((host, port), handler)
        except OSError as error:
            raise OSError(f"cannot listen on {host}:{port} ({error.strerror}); try another --port, or 0") from error

    @property
    def url(self) -> str:
        """The address with the token."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.server_address[1]}/?token={self.access.token}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is no error."""
        logger.debug("request of %s ended", client_address, exc_info=True)


class CheckedHandler(BaseHTTPRequestHandler):
    """One connection. A page's handler answers `get`, and `post` and `delete` where it takes them."""

    server: CheckedServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "reelpack", ""
    timeout: ClassVar[float] = 30.0  # s that a client may keep silent

    def get(self, path: str, query: dict[str, str]) -> None:
        self.send_nothing()

    def post(self, path: str, query: dict[str, str]) -> None:
        self.close_connection = True  # what was sent along is not read
        self.send_nothing()

    def delete(self, path: str, query: dict[str, str]) -> None:
        self.send_nothing()

    def do_GET(self) -> None:
        self._guarded(self.get)

    def do_POST(self) -> None:
        self._guarded(self.post)

    def do_DELETE(self) -> None:
        self._guarded(self.delete)

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
            self.send(HTTPStatus.FORBIDDEN, str(refused).encode(), "text/plain; charset=utf-8")
            return
        try:
            answer(parts.path, query)
        except ConnectionError:
            raise  # the browser went away
        except Exception as error:
            logger.exception("%s %s", self.command, parts.path)
            self.close_connection = True
            self.send_json({"error": f"{type(error).__name__}: {error}"}, HTTPStatus.INTERNAL_SERVER_ERROR)

    def body(self, limit: int) -> bytes | None:
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
        self.send_json({"error": problem}, status)
        return None

    def send_media(self, size: int, read: Callable[[int, int], bytes], kind: str) -> None:
        """A video or a picture, or the part of it that a player wants.

        Args:
            size: of the whole, in bytes.
            read: the bytes from a first up to, without, a last.
            kind: media type.
        """
        headers = {"Accept-Ranges": "bytes", **NO_STORE}  # what is taken down, or deleted, is in no browser either
        wanted = re.fullmatch(r"bytes=(\d{1,15})-(\d{0,15})", self.headers.get("Range", ""))
        first, last = (int(wanted[1]), min(int(wanted[2] or size), size - 1)) if wanted else (0, -1)
        if first <= last:
            last = min(last, first + MAX_PART_BYTES - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
            self.send(HTTPStatus.PARTIAL_CONTENT, read(first, last + 1), kind, headers)
        else:
            self.send(HTTPStatus.OK, read(0, size), kind, headers)

    def send_page(self, page: bytes, headers: Mapping[str, str] | None = None) -> None:
        """HTML, with the token's cookie."""
        cookie = {"Set-Cookie": self.server.access.set_cookie, **NO_STORE, **(headers or {})}
        self.send(HTTPStatus.OK, page, "text/html; charset=utf-8", cookie)

    def send_json(self, values: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send(status, json.dumps(values, allow_nan=False).encode(), "application/json", NO_STORE)

    def send_nothing(self) -> None:
        self.send_json({"error": "there is nothing here"}, HTTPStatus.NOT_FOUND)

    def send(self, status: HTTPStatus, data: bytes, kind: str, headers: Mapping[str, str] | None = None) -> None:
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
