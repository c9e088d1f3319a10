"""The HTTP backend against a real server on loopback, which also misbehaves."""

import base64
import io
import pickle
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from caption.backends import endpoint
from caption.backends.base import SAMPLING_TEMPERATURE, CaptionRequest, CaptionResult, FailedRequest
from caption.backends.endpoint import wait_of
from caption.backends.openai import LostEndpoint, OpenAiBackend, OpenAiConfig
from caption.backends.transformers_vlm import TransformersVlm, TransformersVlmConfig
from curate.schema import FailureKind
from tests.support.caption_server import MODEL, CaptionServer, Fault, completion, error, request_of

KEY = "sk-live/0123456789abcdef+Secret"
BODY = {"model": MODEL}


@pytest.fixture
def server() -> Iterator[CaptionServer]:
    with CaptionServer() as server:
        yield server


def connected(server: CaptionServer, **changes: Any) -> OpenAiBackend:
    backend = OpenAiBackend(settings(server.url, **changes))
    backend.setup()
    return backend


def settings(url: str, **changes: Any) -> OpenAiConfig:
    return OpenAiConfig(**{"base_url": url, "model": MODEL, "retry_wait_s": 0.001, **changes})


def request(num_frames: int = 2, **changes: Any) -> CaptionRequest:
    frames = np.random.default_rng(0).integers(0, 256, (num_frames, 12, 16, 3), np.uint8)
    return CaptionRequest(**{"frames": frames, "prompt": "describe this video", "max_tokens": 8, **changes})


def sent(server: CaptionServer, asked: CaptionRequest, **changes: Any) -> dict[str, Any]:
    """The body of one request."""
    connected(server, **changes).caption([asked])
    return server.bodies[-1]


def failure(server: CaptionServer, *faults: Fault, **changes: Any) -> FailedRequest:
    """Of the second of three requests; the others have their texts."""
    backend = connected(server, **changes)
    (before,) = backend.caption([request()])
    server.faults += faults
    (outcome,) = backend.caption([request()])
    server.faults.clear()
    (after,) = backend.caption([request()])
    assert isinstance(before, CaptionResult) and before == after
    assert isinstance(outcome, FailedRequest)
    return outcome


def test_captions_are_those_of_the_same_model_without_a_server(tiny_vlm: Path) -> None:
    direct = TransformersVlm(TransformersVlmConfig(model=str(tiny_vlm), dtype="float32", device="cpu"))
    direct.setup()
    rng = np.random.default_rng(0)
    requests = [
        request(frames=rng.integers(0, 256, (num, 28, 40, 3), np.uint8), max_tokens=limit)
        for num, limit in ((1, 8), (3, 4), (2, 12), (0, 6))
    ]
    lock = threading.Lock()

    def answer(body: Any) -> CaptionResult:
        with lock:
            (result,) = direct.caption([request_of(body)])
        assert isinstance(result, CaptionResult)
        return result

    with CaptionServer(answer) as server:
        over_http = connected(server, image_format="png").caption(requests)
    without = direct.caption(requests)
    assert [result.text for result in over_http] == [result.text for result in without]  # type: ignore[union-attr]
    assert [result.num_output_tokens for result in over_http] == [result.num_output_tokens for result in without]  # type: ignore[union-attr]
    assert len({result.text for result in without}) > 1  # type: ignore[union-attr]


def test_frames_are_images_in_order_before_the_prompt(server: CaptionServer) -> None:
    asked = request(3)
    body = sent(server, asked, image_format="png")
    np.testing.assert_array_equal(request_of(body).frames, asked.frames)
    assert [part["type"] for part in body["messages"][0]["content"]] == ["image_url"] * 3 + ["text"]
    assert request_of(body).prompt == asked.prompt
    jpeg = request_of(sent(server, asked, jpeg_quality=100))
    assert np.abs(jpeg.frames.astype(int) - asked.frames).mean() < 2


def test_large_frames_are_made_smaller(server: CaptionServer) -> None:
    frames = np.zeros((2, 90, 160, 3), np.uint8)
    assert request_of(sent(server, request(frames=frames), max_side_px=64)).frames.shape == (2, 36, 64, 3)
    assert request_of(sent(server, request(frames=frames), max_side_px=None)).frames.shape == (2, 90, 160, 3)


def test_a_video_is_jpeg_frames_or_a_file_that_plays_at_the_frames_times(server: CaptionServer) -> None:
    asked = request(4, times_s=(0.0, 0.25, 0.5, 0.75))
    (part, _) = sent(server, asked, frames="video_jpeg")["messages"][0]["content"]
    head, _, data = part["video_url"]["url"].partition(",")
    assert head == "data:video/jpeg;base64"
    shapes = [np.asarray(Image.open(io.BytesIO(base64.b64decode(frame)))).shape for frame in data.split(",")]
    assert shapes == [(12, 16, 3)] * 4
    (part, _) = sent(server, asked, frames="video_mp4")["messages"][0]["content"]
    head, _, data = part["video_url"]["url"].partition(",")
    assert head == "data:video/mp4;base64"
    with av.open(io.BytesIO(base64.b64decode(data))) as container:
        assert [frame.time for frame in container.decode(video=0)] == pytest.approx(list(asked.times_s), abs=1e-3)


def test_without_frames_the_language_model_is_asked(server: CaptionServer) -> None:
    assert sent(server, request(0))["messages"] == [{"role": "user", "content": "describe this video"}]


def test_a_request_says_how_it_is_decoded(server: CaptionServer) -> None:
    greedy = sent(server, request())
    assert (greedy["temperature"], greedy["max_tokens"]) == (0.0, 8)
    assert not {"seed", "top_p", "repetition_penalty", "response_format"} & greedy.keys()
    seeded = sent(server, request(seed=1, repetition_penalty=1.2))
    assert (seeded["temperature"], seeded["repetition_penalty"]) == (SAMPLING_TEMPERATURE, 1.2)
    assert seeded["seed"] == sent(server, request(seed=1))["seed"] != sent(server, request(seed=2))["seed"]
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    given = sent(server, request(schema=schema))["response_format"]
    assert given["type"] == "json_schema" and given["json_schema"]["schema"] == schema
    assert sent(server, request(schema=schema), structured="json_object")["response_format"] == {"type": "json_object"}
    assert "response_format" not in sent(server, request(schema=schema), structured="none")


def test_what_a_vendor_has_another_name_for_can_be_named(server: CaptionServer) -> None:
    body = sent(
        server,
        request(repetition_penalty=1.2),
        penalty="frequency_penalty",
        token_limit="max_completion_tokens",
        temperature=None,
        extra_body={"top_k": 20, "messages": None},
    )
    assert (body["frequency_penalty"], body["max_completion_tokens"], body["top_k"]) == (1.0, 8, 20)
    assert not {"temperature", "max_tokens", "repetition_penalty", "messages"} & body.keys()


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429, body=error("slow down", "rate_limit"), headers={"Retry-After": "0"}),
        Fault(status=500, body="Internal Server Error"),
        Fault(status=503, body=""),
        Fault(close=True),
        Fault(body='{"choices": [', declared=500),
        Fault(delay_s=0.3),
        Fault(body="x" * 30, pauses_s=0.02),
    ],
    ids=["429", "500", "503", "closed", "closed in the middle", "slow", "byte by byte"],
)
def test_what_passes_is_tried_again(server: CaptionServer, fault: Fault) -> None:
    backend = connected(server, timeout_s=0.15)
    server.faults += [fault, fault]
    (outcome,) = backend.caption([request()])
    assert isinstance(outcome, CaptionResult) and outcome.text == "a video"
    assert len(server.bodies) == 3


@pytest.mark.parametrize(
    ("fault", "kind", "detail"),
    [
        (Fault(status=429, body=error("slow down", "rate_limit")), FailureKind.IO, "HTTP 429: slow down"),
        (Fault(status=500, body="<html>\n<b>Oops</b>"), FailureKind.IO, "HTTP 500: <html> <b>Oops</b>"),
        (Fault(delay_s=0.2), FailureKind.TIMEOUT, "within 0.1 s"),
        (Fault(body="x" * 30, pauses_s=0.02), FailureKind.TIMEOUT, "within 0.1 s"),
        (Fault(close=True), FailureKind.IO, "disconnected"),
        (Fault(body="{", declared=9), FailureKind.IO, "no answer"),
        (Fault(body="<html>hello"), FailureKind.MODEL, "no chat completion: <html>hello"),
        (Fault(body='{"choices": [{"mess'), FailureKind.MODEL, "no chat completion"),
        (Fault(body=""), FailureKind.MODEL, "an empty answer"),
        (Fault(body="[" * 100_000), FailureKind.MODEL, "no chat completion"),
        (Fault(body='{"choices": []}'), FailureKind.MODEL, "no choices"),
        (Fault(body=error("overloaded", "busy")), FailureKind.MODEL, r"overloaded \(busy\)"),
        (Fault(body=completion(BODY, "", finish_reason="content_filter")), FailureKind.REFUSED, "filter"),
        (Fault(status=400, body=error("Refused.", "content_filter")), FailureKind.REFUSED, "Refused"),
        (Fault(status=403, body=error("Your input was flagged", "403")), FailureKind.REFUSED, "flagged"),
        (Fault(status=400, body=error("The prompt is too long", "context")), FailureKind.MODEL, "too long"),
        (Fault(status=413, body="<html>"), FailureKind.TOO_LARGE, "max_side_px"),
        (Fault(status=400, body=error("no such field response_format", "x")), FailureKind.MODEL, "structured=json_"),
        (Fault(status=307, body="", headers={"Location": "/elsewhere"}), FailureKind.MODEL, "HTTP 307"),
    ],
)  # fmt: skip
def test_a_failed_request_has_a_kind_and_costs_no_other(
    server: CaptionServer, fault: Fault, kind: FailureKind, detail: str
) -> None:
    outcome = failure(server, fault, fault, timeout_s=0.1, max_retries=1)
    assert outcome.kind == kind
    assert re.search(detail, outcome.detail), outcome.detail


def test_a_bad_request_is_asked_once(server: CaptionServer) -> None:
    failure(server, Fault(status=400, body=error("The prompt is too long", "context")))
    assert len(server.bodies) == 3


def test_all_requests_wait_as_long_as_the_endpoint_asks(server: CaptionServer) -> None:
    backend = connected(server)
    server.faults.append(Fault(status=429, body="", headers={"Retry-After": "1"}))
    backend._endpoint._pace.hold = held = Held()  # type: ignore[union-attr, assignment, method-assign]
    backend.caption([request()])
    assert held == [1.0]


class Held(list[float]):
    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def test_a_wait_of_an_hour_is_a_failed_request_at_once(server: CaptionServer) -> None:
    outcome = failure(server, Fault(status=429, body="", headers={"Retry-After": "3600"}))
    assert outcome.kind == FailureKind.IO and "3600 s" in outcome.detail


def test_the_wait_is_read_as_seconds_or_as_a_date() -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert wait_of({"retry-after": "7"}) == 7.0
    assert wait_of({"retry-after": at}) == pytest.approx(30, abs=2)
    assert wait_of({"retry-after": format_datetime(datetime(2000, 1, 1, tzinfo=UTC))}) == 0.0
    assert wait_of({"retry-after": "soon"}) is wait_of({}) is None


def test_many_requests_are_in_flight_and_the_results_are_in_order() -> None:
    with CaptionServer(lambda body: request_of(body).prompt, latency_s=0.05) as server:
        backend = connected(server, num_in_flight=8)
        requests = [request(0, prompt=f"number {row}") for row in range(16)]
        assert [outcome.text for outcome in backend.caption(requests)] == [one.prompt for one in requests]  # type: ignore[union-attr]
        assert server.most_in_flight == 8
        with ThreadPoolExecutor(8) as threads:  # as the scheduler calls it
            outcomes = list(threads.map(lambda one: backend.caption([one])[0], requests))
        assert [outcome.text for outcome in outcomes] == [one.prompt for one in requests]  # type: ignore[union-attr]


def test_a_rate_is_kept(server: CaptionServer) -> None:
    backend = connected(server, requests_per_minute=60 / 0.03)
    backend.caption([request(0)] * 5)
    assert min(np.diff(server.times_s)) > 0.015


def test_thinking_is_no_part_of_a_caption(server: CaptionServer) -> None:
    for written, text in {
        "<think>\nA cat, or a dog?\n</think>\n\nA cat.": "A cat.",
        "A cat, or a dog?</think> A dog.": "A dog.",
        "<think> A cat, or": "",
    }.items():
        server.answer = lambda body, written=written: written  # type: ignore[misc]
        (outcome,) = connected(server).caption([request()])
        assert isinstance(outcome, CaptionResult) and outcome.text == text


def test_an_answer_in_pieces_or_without_usage_is_read(server: CaptionServer) -> None:
    backend = connected(server)
    message = {"content": [{"type": "text", "text": "A "}, {"type": "text", "text": "cat."}]}
    server.faults.append(Fault(body=completion(BODY, "", message=message, finish_reason="length")))
    (cut,) = backend.caption([request()])
    assert isinstance(cut, CaptionResult) and (cut.text, cut.finish_reason) == ("A cat.", "length")
    server.faults.append(Fault(body='{"choices": [{"message": {"content": "A cat."}}], "system_fingerprint": "fp_1"}'))
    (bare,) = backend.caption([request()])
    assert bare == CaptionResult(
        text="A cat.", finish_reason="stop", num_prompt_tokens=0, num_output_tokens=0, served_by="fp_1"
    )


def test_an_endpoint_that_is_down_is_an_error_with_the_remedy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(ValueError, match=r"(?s)127\.0\.0\.1.*refused.*is the server running.*base_url"):
            OpenAiBackend(settings(url, max_retries=1)).setup()


def test_an_address_at_which_nothing_ever_answered_is_told_at_once_and_soon_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(endpoint, "time", SimpleNamespace(sleep=waits.append, monotonic=time.monotonic))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(ValueError, match="is the server running"):
            OpenAiBackend(settings(url, max_retries=9, retry_wait_s=1)).setup()
    assert sum(waits) <= 3
    (told,) = caplog.messages
    assert url in told and "refused" in told and "tried again, 2 times at most" in told


def test_an_endpoint_that_has_answered_gets_all_tries(server: CaptionServer, caplog: pytest.LogCaptureFixture) -> None:
    backend = connected(server, max_retries=4)
    server.faults += [Fault(close=True)] * 4
    assert isinstance(backend.caption([request()])[0], CaptionResult)
    assert not caplog.messages


def test_a_server_on_this_machine_needs_no_proxy(server: CaptionServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert connected(server, max_retries=0).caption([request()])


def test_an_endpoint_that_starts_is_waited_for(server: CaptionServer, caplog: pytest.LogCaptureFixture) -> None:
    server.models = None
    server.faults += [Fault(status=503, body='{"error": "loading model"}')] * 4
    connected(server)
    assert len(server.bodies) == 5 and "loading model; tried again, 5 times at most" in caplog.text


def test_a_wrong_model_is_an_error_that_names_those_there_are(server: CaptionServer) -> None:
    server.models = ["org/other", MODEL]
    with pytest.raises(ValueError, match=f"'org/tiny'.*it has {MODEL}, org/other.*model_not_found"):
        connected(server, model="org/tiny")


def test_a_model_that_is_not_listed_is_asked(server: CaptionServer) -> None:
    server.models = None  # no list, as some vendors; any name, as llama.cpp
    assert connected(server, model="any").caption([request()])


def test_what_is_no_such_endpoint_is_an_error(server: CaptionServer) -> None:
    server.models = None
    server.faults.append(Fault(body="<html>welcome"))
    with pytest.raises(ValueError, match=r"<html>welcome.*often ends in /v1"):
        connected(server)
    with pytest.raises(ValueError, match="often ends in /v1"):
        OpenAiBackend(settings(server.url.removesuffix("/v1"))).setup()


def test_a_model_or_a_key_that_is_refused_later_ends_the_job(server: CaptionServer) -> None:
    backend = connected(server)
    for fault in (
        Fault(status=401, body=error("revoked", "x")),
        Fault(status=404, body=error("gone", "x")),
        Fault(status=429, body=error("You exceeded your quota", "insufficient_quota")),
    ):
        server.faults = [fault]
        with pytest.raises(LostEndpoint):
            backend.caption([request()])


def test_a_missing_or_wrong_key_is_an_error_that_names_the_variable(
    server: CaptionServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.key = KEY
    with pytest.raises(ValueError, match=r"asks for a key.*api_key_env"):
        connected(server)
    monkeypatch.delenv("THE_KEY", raising=False)
    with pytest.raises(ValueError, match="variable THE_KEY is not set"):
        connected(server, api_key_env="THE_KEY")
    monkeypatch.setenv("THE_KEY", "another-key")
    with pytest.raises(ValueError, match="THE_KEY is refused"):
        connected(server, api_key_env="THE_KEY")
    monkeypatch.setenv("THE_KEY", "a\nb")
    with pytest.raises(ValueError, match="holds no key"):
        connected(server, api_key_env="THE_KEY")


def test_the_key_is_nowhere_but_in_the_header(server: CaptionServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in what is stored or printed, also where the endpoint repeats it."""
    monkeypatch.setenv("THE_KEY", KEY)
    server.key = KEY
    backend = connected(server, api_key_env="THE_KEY", max_retries=0)
    echo = {"answer": f"a video of {KEY}", "error": error(f"the key {KEY} is wrong", KEY)}
    server.answer = lambda body: echo["answer"]
    outcomes = backend.caption([request()])
    assert isinstance(outcomes[0], CaptionResult) and outcomes[0].text == "a video of [key]"
    for status in (200, 400, 500):
        server.faults = [Fault(status=status, body=echo["error"])]
        outcomes += backend.caption([request()])
    server.faults = [Fault(status=401, body=echo["error"])]
    with pytest.raises(LostEndpoint) as lost:
        backend.caption([request()])
    monkeypatch.setenv("THE_KEY", KEY + "x")
    with pytest.raises(ValueError) as refused:
        connected(server, api_key_env="THE_KEY")
    written = [
        *map(str, outcomes), repr(backend), repr(vars(backend)), str(backend.provenance),
        backend.config.model_dump_json(), str(lost.value), str(refused.value),
    ]  # fmt: skip
    assert not [text for text in written if KEY in text]
    assert KEY.encode() not in pickle.dumps(backend)


@pytest.mark.parametrize(
    "changes",
    [
        {"base_url": f"http://user:{KEY}@127.0.0.1/v1"},
        {"base_url": f"http://127.0.0.1/v1?api-key={KEY}"},
        {"base_url": f"file:///{KEY}"},
        {"api_key_env": KEY},
        {"extra_body": {"api_key": KEY}},
        {"extra_body": {"providers": [{"headers": {"Authorization": KEY}}]}},
    ],
)
def test_a_key_in_the_settings_is_refused_and_not_repeated(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        settings("http://127.0.0.1/v1", **changes) if "base_url" not in changes else settings(changes["base_url"])
    assert KEY not in str(refused.value)


def test_a_server_that_moves_keeps_its_captions() -> None:
    here, there = (settings(url).build().provenance for url in ("http://a:1/v1", "https://b/v1/chat/completions"))
    assert here.fingerprint == there.fingerprint
    assert here.parameters["endpoint"] == "a:1"
    others = [{"revision": "2"}, {"temperature": 0.5}, {"max_side_px": 64}, {"extra_body": {"top_k": 1}}]
    assert len({settings("http://a/v1", **other).build().provenance.fingerprint for other in others}) == 4
    assert here.fingerprint == settings("http://a/v1", num_in_flight=3, timeout_s=9).build().provenance.fingerprint


def test_a_backend_that_is_set_up_can_be_sent_to_a_worker(server: CaptionServer) -> None:
    copied = pickle.loads(pickle.dumps(connected(server)))
    copied.setup()
    assert copied.caption([request()])[0].text == "a video"
