"""The page that prompts a run, over HTTP: its files, what it asks, and the gallery."""

import json
import re
from http import HTTPStatus
from pathlib import Path

import curate.report
from pipelines.serve.access import Access
from pipelines.serve.checked_http import MEDIA_TYPES, NO_STORE, CheckedHandler, CheckedServer
from pipelines.serve.studio import Studio
from pipelines.serve.uploads import MAX_BYTES

HERE = Path(__file__).parent
FILES = {
    "/": (HERE / "page.html", "text/html; charset=utf-8"),
    "/page.js": (HERE / "page.js", "text/javascript; charset=utf-8"),
    "/page.css": (HERE / "page.css", "text/css; charset=utf-8"),
    "/report.css": (Path(curate.report.__path__[0]) / "report.css", "text/css; charset=utf-8"),
}
MAX_SETTINGS_BYTES = 1 << 16
MOST_ITEMS = 60


class PageServer(CheckedServer):
    """Answers while another thread generates."""

    def __init__(self, host: str, port: int, access: Access, studio: Studio) -> None:
        self.studio = studio
        super().__init__(host, port, access, Handler)


class Handler(CheckedHandler):
    server: PageServer

    def get(self, path: str, query: dict[str, str]) -> None:
        studio = self.server.studio
        if path == "/":
            self.send_page(FILES[path][0].read_bytes())
        elif path in FILES:
            file, kind = FILES[path]
            self.send(HTTPStatus.OK, file.read_bytes(), kind, NO_STORE)
        elif path == "/api/about":
            self.send_json(studio.about())
        elif path == "/api/state":
            self.send_json(studio.state())
        elif path == "/api/items":
            limit = query.get("limit", "24")
            wanted = min(int(limit), MOST_ITEMS) if re.fullmatch(r"\d{1,4}", limit) else MOST_ITEMS
            self.send_json(studio.items(query.get("before"), wanted))
        elif path.startswith("/media/") and (item := studio.gallery.file(path.removeprefix("/media/"))):
            data = item.read_bytes()
            self.send_media(len(data), lambda first, last: data[first:last], MEDIA_TYPES[item.suffix[1:]])
        else:
            self.send_nothing()

    def post(self, path: str, query: dict[str, str]) -> None:
        limits = {"/api/jobs": MAX_SETTINGS_BYTES, "/api/uploads": MAX_BYTES}
        if path not in limits:
            super().post(path, query)
            return
        if (body := self.body(limits[path])) is None:
            return
        studio = self.server.studio
        try:
            if path == "/api/uploads":
                self.send_json(studio.uploads.add(body), HTTPStatus.CREATED)
            else:
                self.send_json(studio.ask(json.loads(body)).shown(), HTTPStatus.ACCEPTED)
        except (ValueError, RecursionError) as error:  # JSON that is none, or deeper than anyone means
            self.send_json({"error": str(error)}, HTTPStatus.BAD_REQUEST)

    def delete(self, path: str, query: dict[str, str]) -> None:
        part, _, name = path.removeprefix("/api/").partition("/")
        if part == "items":
            done, problem = self.server.studio.gallery.remove(name), "this is deleted already"
        elif part == "jobs" and re.fullmatch(r"\d{1,9}", name):
            done, problem = self.server.studio.queue.cancel(int(name)), "this generation has ended already"
        else:
            done, problem = False, "there is nothing here"
        self.send_json({} if done else {"error": problem}, HTTPStatus.OK if done else HTTPStatus.NOT_FOUND)
