"""A Hugging Face hub on this machine that takes uploads of data sets, as far as `HfApi.upload_folder` asks."""

import base64
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask, jsonify, request
from werkzeug.serving import make_server


class Hub:
    """What was pushed: `files` by repository and path. `refuses`: it answers 403."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.private: dict[str, bool] = {}
        self.refuses = False
        self._blobs: dict[str, bytes] = {}
        self.app = Flask("hub")
        self.app.add_url_rule("/<path:path>", view_func=self._answer, methods=["GET", "POST", "PUT"])

    def _answer(self, path: str) -> Any:
        data = request.get_data()
        if self.refuses:
            return jsonify(error="You may not write here"), 403
        if path == "api/repos/create":
            asked = json.loads(data)
            name = f"{asked['organization']}/{asked['name']}"
            self.private[name] = asked["visibility"] == "private"
            return jsonify(url=f"{request.host_url}datasets/{name}", name=name)
        if path == "api/validate-yaml":
            return jsonify(errors=[], warnings=[])
        if "/preupload/" in path:
            names = [one["path"] for one in json.loads(data)["files"]]
            return jsonify(files=[{"path": name, "uploadMode": _mode(name), "shouldIgnore": False} for name in names])
        if path.endswith("/objects/batch"):
            objects = json.loads(data)["objects"]
            for one in objects:
                one["actions"] = {"upload": {"href": f"{request.host_url}blobs/{one['oid']}"}}
            return jsonify(transfer="basic", objects=objects)
        if path.startswith("blobs/"):
            self._blobs[path.removeprefix("blobs/")] = data
            return ""
        if "/commit/" in path:
            return self._commit(path.split("/")[2:4], data)
        return "", 404

    def _commit(self, name: list[str], data: bytes) -> Any:
        for line in map(json.loads, data.splitlines()):
            value = line["value"]
            place = f"{'/'.join(name)}/{value.get('path')}"
            if line["key"] == "file":
                self.files[place] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.files[place] = self._blobs[value["oid"]]
        address = f"{request.host_url}datasets/{'/'.join(name)}/commit/0"
        return jsonify(commitUrl=address, commitOid="0", success=True)


def _mode(name: str) -> str:
    return "lfs" if name.endswith((".tar", ".parquet")) else "regular"


@contextmanager
def serve() -> Iterator[tuple[Hub, str]]:
    """The hub and its address."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    hub = Hub()
    server = make_server("127.0.0.1", 0, hub.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
