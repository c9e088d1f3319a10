"""An OpenAI-compatible chat-completions server on loopback, which also misbehaves.

It answers with the text of a function, after a latency, any number of requests at the same time. `faults` are used up
first, one per request, in their order.
"""

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import numpy as np
from PIL import Image

from caption.backends.base import CaptionRequest, CaptionResult

MODEL = "org/tiny-vlm"
Answer = Callable[[Mapping[str, Any]], str | CaptionResult]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What the server does in place of an answer.

    Attributes:
        status, body, headers: What it sends; a body of None is the right one.
        delay_s: How long it waits before.
        declared: Length that it declares; more than that of the body: the connection closes in the middle.
        close: Close the connection without an answer.
        pauses_s: Between the bytes of the body.
    """

    status: int = 200
    body: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    declared: int | None = None
    close: bool = False
    pauses_s: float = 0.0


class CaptionServer:
    """Runs while it is entered.

    Args:
        answer: body of a request → text, or a result with its numbers of tokens.
        latency_s: of each answer.
        key: what a request must bring; None: nothing.
        models: names that it lists and knows; None: it has no list, and takes any name.

    Attributes:
        faults: Of the next requests for a chat completion.
        bodies: Of the requests so far, as they came; `times_s` says when, `most_in_flight` how many at the same time.
    """

    def __init__(
        self,
        answer: Answer = lambda body: "a video",
        *,
        latency_s: float = 0.0,
        key: str | None = None,
        models: Iterable[str] | None = (MODEL,),
    ) -> None:
        self.answer, self.latency_s, self.key = answer, latency_s, key
        self.models = None if models is None else list(models)
        self.faults: list[Fault] = []
        self.bodies: list[dict[str, Any]] = []
        self.times_s: list[float] = []
        self.most_in_flight = self._in_flight = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), type("Bound", (_Handler,), {"served": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait(self, seconds: float) -> None:
        """Ends early where the server stops."""
        if seconds:
            self._closing.wait(seconds)

    def completion(self, body: dict[str, Any]) -> tuple[int, Mapping[str, str], str, Fault]:
        """Status, headers and body of the answer to a chat completion, and how it is sent."""
        with self._lock:
            self.bodies.append(body)
            self.times_s.append(time.monotonic())
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
            fault = self.faults.pop(0) if self.faults else Fault()
        try:
            self.wait(self.latency_s + fault.delay_s)
            if fault.body is not None or fault.close:
                return fault.status, fault.headers, fault.body or "", fault
            if self.models is not None and body["model"] not in self.models:
                return 404, {}, error(f"The model `{body['model']}` does not exist.", "model_not_found"), fault
            return fault.status, fault.headers, completion(body, self.answer(body)), fault
        finally:
            with self._lock:
                self._in_flight -= 1


def completion(body: Mapping[str, Any], result: str | CaptionResult, **changes: Any) -> str:
    """JSON of a chat completion; `changes` are of its choice."""
    if isinstance(result, str):
        num = len(result.split()) + 1
        result = CaptionResult(text=result, finish_reason="stop", num_prompt_tokens=12, num_output_tokens=num)
    message = {"role": "assistant", "content": result.text}
    choice = {"index": 0, "message": message, "finish_reason": result.finish_reason, **changes}
    usage = {"prompt_tokens": result.num_prompt_tokens, "completion_tokens": result.num_output_tokens}
    return json.dumps(
        {"id": "1", "object": "chat.completion", "model": body["model"], "choices": [choice], "usage": usage}
    )


def error(message: str, code: str) -> str:
    """JSON of a refusal."""
    return json.dumps({"error": {"message": message, "type": "invalid_request_error", "code": code}})


def request_of(body: Mapping[str, Any]) -> CaptionRequest:
    """The request in a body, its frames from their data URLs."""
    content = body["messages"][-1]["content"]
    parts: list[dict[str, Any]] = [{"type": "text", "text": content}] if isinstance(content, str) else content
    frames = [_decoded(part["image_url"]["url"]) for part in parts if part["type"] == "image_url"]
    return CaptionRequest(
        frames=np.stack(frames) if frames else np.zeros((0, 0, 0, 3), np.uint8),
        prompt="".join(part["text"] for part in parts if part["type"] == "text"),
        max_tokens=body["max_tokens"],
        seed=body.get("seed"),
        repetition_penalty=body.get("repetition_penalty"),
    )


def _decoded(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    served: CaptionServer

    def do_GET(self) -> None:
        if self._is_refused():
            return
        if self.path != "/v1/models" or self.served.models is None:
            return self._send(404, {}, '{"detail": "Not Found"}')
        models = [{"id": name, "object": "model"} for name in self.served.models]
        self._send(200, {}, json.dumps({"object": "list", "data": models}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._is_refused():
            return
        if self.path != "/v1/chat/completions":
            return self._send(404, {}, '{"detail": "Not Found"}')
        status, headers, content, fault = self.served.completion(body)
        if fault.close:
            self.close_connection = True
        else:
            self._send(status, headers, content, fault)

    def _is_refused(self) -> bool:
        given = self.headers.get("Authorization", "")
        if self.served.key is None or given == f"Bearer {self.served.key}":
            return False
        self._send(401, {}, error(f"Incorrect API key provided: {given.removeprefix('Bearer ')}.", "invalid_api_key"))
        return True

    def _send(self, status: int, headers: Mapping[str, str], content: str, fault: Fault = Fault()) -> None:
        data = content.encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(fault.declared or len(data)))
        self.end_headers()
        try:
            for start in range(0, len(data), 1 if fault.pauses_s else len(data) or 1):
                self.wfile.write(data[start : start + 1] if fault.pauses_s else data)
                self.served.wait(fault.pauses_s)
        except (BrokenPipeError, ConnectionResetError):  # the client does not wait
            self.close_connection = True
        self.close_connection |= fault.declared is not None

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""
