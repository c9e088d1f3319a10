"""The served report over HTTP: its files, pages of clips, what they play, and sections."""

import re
from http import HTTPStatus
from pathlib import Path

import curate.report
from curate.report.build import STYLES
from curate.schema import MediaError
from pipelines.serve.access import Access
from pipelines.serve.checked_http import MEDIA_TYPES, NO_STORE, POLICY, CheckedHandler, CheckedServer
from pipelines.viewer.frame import SERVED_SCRIPTS
from pipelines.viewer.library import Library

HERE = Path(curate.report.__path__[0])
KINDS = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
FILES = {f"/{name}": HERE / name for name in (*STYLES, *SERVED_SCRIPTS)}
STYLED = {"Content-Security-Policy": f"{POLICY}; style-src-attr 'unsafe-inline'"}
"""Cards have the places of their frames in style attributes."""
CLIP = re.compile(r"/(clips|strips|captions)/([0-9a-f]{32})")
MAX_JUDGMENT_BYTES = 1 << 22


class ReportServer(CheckedServer):
    def __init__(self, host: str, port: int, access: Access, library: Library) -> None:
        self.library = library
        super().__init__(host, port, access, Handler)


class Handler(CheckedHandler):
    server: ReportServer

    def get(self, path: str, query: dict[str, str]) -> None:
        library = self.server.library
        try:
            if path == "/":
                self.send_page(library.edition.page, STYLED)
            elif path in FILES:
                self.send(HTTPStatus.OK, FILES[path].read_bytes(), KINDS[FILES[path].suffix], NO_STORE)
            elif path == "/api/clips":
                self.send_json(library.clips(query))
            elif path == "/api/against":
                self.send_json(library.laid(query))
            elif (
                path.startswith("/sections/")
                and (html := library.section(path.removeprefix("/sections/"))) is not None
            ):
                self.send(HTTPStatus.OK, html.encode("utf-8", "replace"), "text/html; charset=utf-8", NO_STORE)
            elif asked := CLIP.fullmatch(path):
                {"clips": self._media, "strips": self._strip, "captions": self._captions}[asked[1]](asked[2])
            else:
                self.send_nothing()
        except (ValueError, OSError, MediaError) as error:
            self.send_json({"error": str(error)}, HTTPStatus.BAD_REQUEST)

    def post(self, path: str, query: dict[str, str]) -> None:
        if path != "/api/judgments":
            super().post(path, query)
            return
        if (body := self.body(MAX_JUDGMENT_BYTES)) is None:
            return
        try:
            self.send_json(self.server.library.judge(body.decode()))
        except (ValueError, OSError) as error:
            self.send_json({"error": str(error)}, HTTPStatus.BAD_REQUEST)

    def _captions(self, clip_id: str) -> None:
        self.send_json(self.server.library.captions(clip_id))

    def _media(self, clip_id: str) -> None:
        media = self.server.library.media(clip_id)
        if media is None:
            self.send_nothing()
        else:
            self.send_media(media.size, media.read, MEDIA_TYPES[media.ext])

    def _strip(self, clip_id: str) -> None:
        strip = self.server.library.strip(clip_id)
        if isinstance(strip, bytes):
            self.send(HTTPStatus.OK, strip, "image/jpeg", NO_STORE)
        else:
            self.send_json({"error": strip or "there is no such clip"}, HTTPStatus.NOT_FOUND)
