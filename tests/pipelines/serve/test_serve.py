"""`reelpack serve`: a tiny run behind its page, over HTTP as a browser asks."""

import contextlib
import http.client
import json
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from curate.media.decode import decode_clip
from curate.media.encode import encode_mp4
from curate.media.still import encode_png
from pipelines.generation.asked import command_of
from pipelines.generation.generator import Generator
from pipelines.serve.access import Access
from pipelines.serve.form import form_of
from pipelines.serve.jobs import KEPT, MOST_WAITING, Job, State
from pipelines.serve.server import FILES, PageServer
from pipelines.serve.studio import Studio
from tests.pipelines.test_train_commands import run
from tests.support.browser import Browser, found_browser
from tests.support.tiny_run import tiny_run
from train.sampling.config import SampleConfig
from train.sampling.given_files import GivenFiles

SETTINGS = SampleConfig(num_steps=2, guidance=2, device="cpu")
FORM = {"prompt": "a disc", "width": 48, "height": 32, "num_frames": 5}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def generator(trained: Path) -> Generator:
    return Generator(str(trained), SETTINGS)


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    return found_browser(tmp_path / "profile")


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def values(self) -> Any:
        return json.loads(self.body)


class Visitor:
    """A browser that was opened with the address of the page."""

    def __init__(self, server: PageServer) -> None:
        self.address, self.host = server.server_address, f"127.0.0.1:{server.server_address[1]}"
        self.headers = {"Host": self.host, "Origin": f"http://{self.host}"}
        opened = self.ask("GET", "/" + server.url.rpartition("/")[2])
        self.headers["Cookie"] = opened.headers["Set-Cookie"].partition(";")[0]

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str | None) -> Answer:
        connection = http.client.HTTPConnection(*self.address[:2], timeout=30)
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection.putrequest(method, path, skip_host=True)
        for name, value in sent.items():
            if value is not None:
                connection.putheader(name, value)
        if body is not None and "Content-Length" not in sent and "Transfer-Encoding" not in sent:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())

    def submit(self, **changes: Any) -> Answer:
        return self.ask("POST", "/api/jobs", json.dumps({**FORM, **changes}).encode())


@pytest.fixture
def served(generator: Generator, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """A server whose queue is worked off by the test."""
    studio = Studio(generator, SETTINGS, tmp_path / "gallery")
    server = PageServer("127.0.0.1", 0, Access("127.0.0.1", is_network=False), studio)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield SimpleNamespace(studio=studio, server=server, visit=lambda: Visitor(server), folder=tmp_path / "gallery")
    server.shutdown()
    server.server_close()
    thread.join()


def work_off(studio: Studio) -> Job:
    job = studio.queue.next()
    studio.run(job)
    return job


def test_what_one_browser_asks_for_both_see_with_settings_that_make_it_again(
    served: SimpleNamespace, trained: Path, tmp_path: Path
) -> None:
    one, other = served.visit(), served.visit()
    assert one.submit(seed=5, num_seeds=2, negative="blue").status == 202
    assert one.submit(num_frames=1, width=32).status == 202
    assert [job["state"] for job in other.ask("GET", "/api/state").values["jobs"]] == ["waiting", "waiting"]
    work_off(served.studio), work_off(served.studio)
    state = other.ask("GET", "/api/state").values
    assert [job["state"] for job in state["jobs"]] == ["done", "done"]
    items = other.ask("GET", "/api/items").values["items"]
    assert [(item["facts"]["seed"], item["name"][-3:]) for item in items] == [(0, "png"), (6, "mp4"), (5, "mp4")]
    assert items[0]["name"] == state["newest"]
    video = other.ask("GET", f"/media/{items[1]['name']}")
    assert video.headers["Content-Type"] == "video/mp4" and len(decode_clip(video.body).rgb) == 5
    part = other.ask("GET", f"/media/{items[1]['name']}", Range="bytes=4-7")
    assert (part.status, part.body) == (206, video.body[4:8])
    for none in ("bytes=7-4", f"bytes={len(video.body)}-", "bytes=x"):
        assert other.ask("GET", f"/media/{items[1]['name']}", Range=none).status == 200
    older = other.ask("GET", f"/api/items?before={items[1]['name']}&limit=5").values
    assert [item["name"] for item in older["items"]] == [items[2]["name"]] and older["total"] == 3

    command = shlex.split(items[1]["command"])
    assert command[:2] == ["reelpack", "sample"] and command[-1] == "sample.mp4"
    assert run(*command[1:-1], str(tmp_path / "again.mp4"), "--set", "sample.device=cpu") == 0
    again = decode_clip((tmp_path / "again.mp4").read_bytes()).rgb.astype(int)
    assert np.abs(again - decode_clip(video.body).rgb).mean() < 2, "as sampled, up to what shares its pack"


def test_a_gallery_survives_the_server_and_shows_whole_items_alone(
    served: SimpleNamespace, generator: Generator
) -> None:
    assert served.visit().submit().status == 202
    [name] = work_off(served.studio).files
    data = (served.folder / name).read_bytes()
    (served.folder / "20260101-000000-000-1.mp4").write_bytes(data[:100])  # killed before its .json
    (served.folder / f".{name}.0123.tmp").write_bytes(data[:100])  # killed while it was written
    (served.folder / "20260101-000000-000-2.json").write_text("{}")
    (served.folder / "notes.txt").write_text("mine")
    assert served.visit().ask("GET", "/media/20260101-000000-000-1.mp4").status == 404
    later = Studio(generator, SETTINGS, served.folder)
    assert later.gallery.names() == [name]
    for number, text in enumerate(["edited", "{}", "[]", '{"prompt": NaN}'], 1):
        (served.folder / f"20260101-000000-000-{number}.mp4").write_bytes(data)
        (served.folder / f"20260101-000000-000-{number}.json").write_text(text)
    [item] = later.items(None, 9)["items"]
    assert item["facts"]["prompt"] == "a disc"
    assert sorted(path.name for path in served.folder.glob(".*")) == []
    assert (served.folder / "notes.txt").exists()


def test_what_the_run_cannot_make_is_said_at_once(served: SimpleNamespace) -> None:
    visitor = served.visit()
    for changes, said in (
        ({"width": 50}, "nearest that this run's autoencoder and patch can make are 5 frames of 48x32"),
        ({"width": 65536, "height": 65536}, "this machine has"),
        ({"prompt": "\ud800"}, "prompt:"),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0"),
        ({"num_seeds": 99}, "num_seeds:"),
        ({"sampler": "lms"}, "sampler:"),
        ({"label": "drama"}, "trained on no such class"),
        ({"conditions": {"motion": 1}}, "was not trained on motion"),
        ({"start": "../../run.json"}, "choose it again"),
        ({"out": "x.mp4"}, "out: Extra inputs"),
        ({"guidance": {"kind": "autoguidance", "run": "other"}}, "guidance:"),
    ):
        answer = visitor.submit(**changes)
        assert answer.status == 400 and said in answer.values["error"], answer.body
    for body in (b"{", b"[]", b"\xff", b"[" * 60_000, b'{"width": NaN}'):
        assert visitor.ask("POST", "/api/jobs", body).status == 400
    assert visitor.ask("GET", "/api/state").values["jobs"] == []


def test_a_start_is_decoded_before_it_is_kept_and_begins_the_video(served: SimpleNamespace) -> None:
    visitor = served.visit()
    picture = encode_png(np.full((32, 48, 3), (200, 30, 30), np.uint8))
    kept = visitor.ask("POST", "/api/uploads", picture).values
    assert (kept["width"], kept["height"], kept["num_frames"]) == (48, 32, 1)
    assert visitor.submit(start=kept["name"]).status == 202
    [name] = work_off(served.studio).files
    video = decode_clip((served.folder / name).read_bytes()).rgb.astype(int)
    like, unlike = np.abs(video[[0, -1]] - (200, 30, 30)).mean(axis=(1, 2, 3))
    assert like < 30 < unlike
    facts = visitor.ask("GET", "/api/items").values["items"][0]["facts"]
    assert (
        facts["start"] == str(served.folder / "given" / kept["name"]) and "composite" in facts["digital_source_type"]
    )
    for data in (b"", b"#!/bin/sh", picture[:60], b"#EXTM3U\nother.ts\n"):
        answer = visitor.ask("POST", "/api/uploads", data)
        assert answer.status == 400 and "expected a picture or a video" in answer.values["error"]
    assert [path.name for path in (served.folder / "given").iterdir()] == [kept["name"]]


def test_a_video_is_edited_and_extended(served: SimpleNamespace) -> None:
    visitor = served.visit()
    clip = encode_mp4(np.full((9, 32, 48, 3), 200, np.uint8), 8.0)
    kept = visitor.ask("POST", "/api/uploads", clip).values["name"]
    for changes in ({"strength": 0.5, "num_steps": 4}, {"extend": "forward"}):
        assert visitor.submit(video=kept, **changes).status == 202
        [name] = work_off(served.studio).files
        facts = json.loads((served.folder / name).with_suffix(".json").read_text())
        assert facts["video"] == str(served.folder / "given" / kept)
        assert {key: facts[key] for key in changes} == changes
        command = visitor.ask("GET", "/api/items").values["items"][0]["command"]
        assert f"--video {facts['video']}" in command
        assert "--extend forward" in command or "sample.strength=0.5" in command
    half = np.zeros((32, 48, 3), np.uint8)
    half[:, 24:] = 255
    for mask, said in (
        (half, "was trained on the tasks"),
        (half[:16], "mask: got 48x16 px; expected the video's 48x32"),
    ):
        name = visitor.ask("POST", "/api/uploads", encode_png(mask)).values["name"]
        assert said in visitor.submit(video=kept, mask=name).values["error"]


def test_what_may_not_be_meant_is_told_and_generated(served: SimpleNamespace) -> None:
    visitor = served.visit()
    square = visitor.ask("POST", "/api/uploads", encode_png(np.zeros((32, 32, 3), np.uint8))).values["name"]
    assert visitor.submit().values["notes"] == []
    [note] = visitor.submit(start=square).values["notes"]
    assert note == "start: 33% of its 32x32 px is cut off to fit 48x32; 32x32 shows more of it"
    assert len(visitor.ask("GET", "/api/state").values["jobs"]) == 2


def test_an_item_is_deleted_for_every_browser(served: SimpleNamespace) -> None:
    visitor = served.visit()
    assert visitor.submit(num_seeds=2).status == 202
    first, last = work_off(served.studio).files
    (served.folder / "notes.json").write_text("{}")
    assert visitor.ask("GET", "/api/state").values["total"] == 2
    for headers in ({"Origin": None}, {"Cookie": None}, {"Origin": "http://rebound.example"}):
        assert visitor.ask("DELETE", f"/api/items/{first}", **headers).status == 403
    assert visitor.ask("DELETE", f"/api/items/{first}").status == 200
    assert visitor.ask("GET", f"/media/{first}").status == 404
    assert [item["name"] for item in visitor.ask("GET", "/api/items").values["items"]] == [last]
    assert visitor.ask("GET", "/api/state").values["total"] == 1
    for name in (first, "notes.json", "../notes.json", "given", ""):
        assert visitor.ask("DELETE", f"/api/items/{name}").status == 404
    left = {path.name for path in served.folder.iterdir() if path.is_file()}
    assert left == {last, Path(last).with_suffix(".json").name, "notes.json"}


def test_a_gallery_or_a_folder_of_prompts_that_is_a_file_is_one_message(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "a.txt").write_text("a disc\n")
    (tmp_path / "x.mp4").mkdir()
    few = ["--size", "48x32", "--frames", "5"]
    for command, said in (
        (["serve", str(trained), "--out", "file"], "--out file: file is a file, and a folder is expected there"),
        (["serve", str(trained), "--out", "file/far/below"], "file is a file, and a folder is expected there"),
        (["sample", str(trained), "--prompts", "a.txt", "--out", "file", *few], "--out file: file is a file"),
        (["sample", str(trained), "--prompt", "a", "--out", "file/x.mp4", *few], "--out file/x.mp4: file is a file"),
        (
            ["sample", str(trained), "--prompt", "a", "--out", "x.mp4", *few],
            "is a folder; expected the name of a file",
        ),
        (["sample", str(trained), "--prompt", "a", "--step", "9", *few], "there are checkpoints after 2"),
        (["serve", str(trained), "--step", "9", "--out", "gallery"], "there are checkpoints after 2"),
        (
            ["serve", str(trained), str(trained), "--out", "gallery"],
            "was conditioned on nothing, and stands at place 2",
        ),
    ):
        with contextlib.chdir(tmp_path):
            assert run(*command) == 2
        assert said in " ".join(capsys.readouterr().err.split())


def test_a_picture_of_more_pixels_than_the_limit_is_not_kept(
    served: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.serve.uploads.MAX_PIXELS", 32 * 48 - 1)
    answer = served.visit().ask("POST", "/api/uploads", encode_png(np.zeros((32, 48, 3), np.uint8)))
    assert answer.status == 400 and not list((served.folder / "given").iterdir())


def test_ends_and_key_frames_are_files_of_the_server(served: SimpleNamespace) -> None:
    visitor = served.visit()
    names = [
        visitor.ask("POST", "/api/uploads", encode_png(np.full((32, 48, 3), shade, np.uint8))).values["name"]
        for shade in (0, 90, 180)
    ]
    form = form_of({**FORM, "start": names[0], "end": names[1], "keys": {"4": names[2]}})
    [one] = form.asked(served.studio.uploads)
    given = served.folder / "given"
    assert one.given == GivenFiles(start=given / names[0], end=given / names[1], keys={4: given / names[2]})
    command = command_of(["RUN"], one.settings(SETTINGS) | {"seed": 0, "step": 2})
    assert f"--end {given / names[1]} --keys 4={given / names[2]}" in command
    for changes, said in (({"keys": {"4": "../x"}}, "choose it again"), ({"loop": True}, "expected start FILE")):
        assert said in visitor.submit(**changes).values["error"]
    for changes, said in (
        ({"end": names[1]}, "was trained on the tasks"),
        ({"keys": {"3": names[2]}}, "nearest are 0 and 4"),
        ({"keys": {"5": names[2]}}, "expected a frame from 0 to 4"),
        ({"video": names[0]}, "video: expected what is done with it: mask FILE, strength below 1, or extend"),
        ({"video": names[0], "strength": 0.5}, "video: it has 1 frames"),
        ({"strength": 0.5}, "starts from a video"),
        ({"mask": names[0]}, "mask: expected video FILE"),
        ({"extend": "back"}, "expected video FILE"),
        ({"extend": "sideways"}, "extend:"),
    ):
        answer = visitor.submit(**changes)
        assert answer.status == 400 and said in answer.values["error"], answer.body
        assert str(given) not in answer.values["error"], "the browser knows no path of the server"
    assert visitor.ask("GET", "/api/state").values["jobs"] == []


def test_a_generation_ends_at_the_next_step_when_it_is_cancelled_and_a_waiting_one_never_begins(
    served: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor, shares, progress = served.visit(), [], Job.progress
    for seed in (1, 2, 3):
        visitor.submit(seed=seed, num_steps=4)

    def cancelling(job: Job, share: float) -> None:
        progress(job, share)
        shares.append(share)
        if share == 0.5:
            assert visitor.ask("DELETE", f"/api/jobs/{job.number}").status == 200
            assert visitor.ask("DELETE", f"/api/jobs/{job.number + 1}").status == 200

    monkeypatch.setattr(Job, "progress", cancelling)
    assert work_off(served.studio).state is State.CANCELLED and shares == [0.0, 0.0, 0.25, 0.5]
    monkeypatch.undo()
    last = work_off(served.studio)
    assert (last.number, last.state, len(served.studio.gallery.names())) == (3, State.DONE, 1)
    assert visitor.ask("DELETE", "/api/jobs/3").status == visitor.ask("DELETE", "/api/jobs/77").status == 404


def test_a_failure_is_the_message_of_its_generation_and_the_next_one_runs(
    served: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = served.visit()
    visitor.submit(), visitor.submit()

    def fails(*given: Any) -> Iterator[Any]:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(served.studio.generator, "make", fails)
    work_off(served.studio)
    monkeypatch.undo()
    assert work_off(served.studio).state is State.DONE
    first = visitor.ask("GET", "/api/state").values["jobs"][0]
    assert (first["state"], first["message"]) == ("failed", "CUDA out of memory")


def test_a_full_queue_takes_no_more(served: SimpleNamespace) -> None:
    visitor = served.visit()
    assert {visitor.submit().status for _ in range(MOST_WAITING)} == {202}
    assert "wait already" in visitor.submit().values["error"]


def test_generations_that_are_cancelled_while_they_wait_are_forgotten_as_others(served: SimpleNamespace) -> None:
    visitor = served.visit()
    for number in range(1, KEPT + 4):
        visitor.submit()
        assert visitor.ask("DELETE", f"/api/jobs/{number}").status == 200
    jobs = visitor.ask("GET", "/api/state").values["jobs"]
    assert [job["number"] for job in jobs] == list(range(4, KEPT + 4))


def test_nothing_is_answered_to_strangers(served: SimpleNamespace) -> None:
    visitor = served.visit()
    for path in ("/", "/page.js", "/api/about", "/api/state", "/api/items", "/media/20260101-000000-000-1.mp4"):
        assert visitor.ask("GET", path, Cookie=None).status == 403
        assert visitor.ask("GET", path, Host="rebound.example").status == 403
    token = visitor.headers["Cookie"].partition("=")[2]
    assert visitor.ask("GET", f"/api/about?token={token}", Cookie=None).status == 403, "in the page's address alone"
    body = json.dumps(FORM).encode()
    for headers in ({"Origin": None}, {"Origin": "http://rebound.example"}, {"Cookie": None}, {"Host": "x"}):
        assert visitor.ask("POST", "/api/jobs", body, **headers).status == 403
        assert visitor.ask("DELETE", "/api/jobs/1", **headers).status == 403
    assert visitor.ask("GET", "/api/state").values["jobs"] == []


def test_paths_of_a_client_reach_no_file_and_bodies_have_a_limit(served: SimpleNamespace) -> None:
    visitor = served.visit()
    (served.folder / "secret.json").write_text("{}")
    (served.folder / "secret.mp4").write_bytes(b"x")
    names = ["secret.mp4", "../run.json", "..%2frun.json", "/notes.txt", "given/x", "20260101-000000-000-1.json"]
    assert {visitor.ask("GET", f"/media/{name}").status for name in names} == {404}
    assert visitor.ask("POST", "/api/jobs", Content_Length=str(1 << 17)).status == 413
    assert visitor.ask("POST", "/api/uploads", Content_Length=str(1 << 40)).status == 413
    assert visitor.ask("POST", "/api/jobs", Content_Length="-1").status == 411
    assert visitor.ask("POST", "/api/jobs", b"0\r\n\r\n", Transfer_Encoding="chunked").status == 411


def test_a_page_is_told_to_load_nothing_from_elsewhere(served: SimpleNamespace) -> None:
    visitor = served.visit()
    page = visitor.ask("GET", "/")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert not re.findall(rb"https?://| style=| on\w+=", page.body)
    parts = set(re.findall(r'(?:src|href)="(\w.*?)"', page.body.decode())) - {"data:,"}
    assert len(parts) == 3 and {visitor.ask("GET", f"/{name}").status for name in parts} == {200}


@pytest.mark.browser
def test_the_page_generates_and_says_what_is_wrong(
    served: SimpleNamespace, browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Driven by a script behind the page's own; a job is done before it is answered, as no time passes in the page."""
    ask = served.studio.ask
    monkeypatch.setattr(served.studio, "ask", lambda values: (ask(values), work_off(served.studio))[1])
    (tmp_path / "page.js").write_text(FILES["/page.js"][0].read_text() + DRIVEN)
    monkeypatch.setitem(FILES, "/page.js", (tmp_path / "page.js", FILES["/page.js"][1]))
    dom = browser.dom(served.server.url)
    found = json.loads(unescape(re.search(r"<title>(.*?)</title>", dom, re.DOTALL)[1]))
    assert found == {
        "captions": [HOSTILE, HOSTILE],
        "facts": "seed 8 · 48x32 · 5 frames · heun, 2 steps · guidance 3",
        "size": [48, 32],
        "again": ["7", HOSTILE, "heun"],
        "problem": found["problem"],
        "address": "/",
        "wide": False,
        "given": [["start", "video"], False, False, ["", "forward"]],
        "extended": ["forward", 0.5],
        "deleted": ["Delete for good", 3, 2],
        "notes": found["notes"],
    }
    assert "nearest that this run" in found["problem"]
    assert found["notes"].startswith("5 frames of 96x80: the run was trained on at most")
    seeds = [item["facts"]["seed"] for item in served.studio.items(None, 9)["items"]]
    assert seeds == [7, 7] and served.studio.items(None, 1)["items"][0]["facts"]["prompt"] == HOSTILE


HOSTILE = "a <b>disc</b> & </script>"
DRIVEN = (
    f"const HOSTILE = {json.dumps(HOSTILE)};"
    + """
ready.then(async () => {
  const set = { prompt: HOSTILE, width: 48, height: 32, num_frames: 5, seed: 7, num_seeds: 2, guidance: 3 };
  for (const [name, value] of Object.entries({ ...set, sampler: "heun", num_steps: 2 })) fields[name].value = value;
  await generate();
  const cards = [...$("gallery").children], video = cards[0].querySelector("video");
  await new Promise((done) => { video.onloadedmetadata = done; video.src = video.dataset.src; });
  for (const name of ["prompt", "seed"]) fields[name].value = 0;
  cards[1].querySelector('[data-do="use"]').click();
  const again = [fields.seed.value, fields.prompt.value, fields.sampler.value];
  fields.width.value = 50;
  await generate();
  const problem = $("problem").textContent;
  $("given-field").open = true;
  const edited = { extend: "forward", strength: 0.5, negative: "" };
  use({ ...set, ...edited, size: "96x80", guidance: [], sampler: { kind: "euler" }, num_steps: 1 });
  const extended = [settings().extend, settings().strength];
  fields.extend.value = "";
  fields.strength.value = 1;
  await generate();
  const notes = $("notes").checkVisibility() && $("notes").textContent;
  const button = cards[0].querySelector('[data-do="delete"]'), item = { name: cards[0].dataset.name };
  await act("delete", item, button);
  const deleted = [button.textContent, $("gallery").children.length];
  await act("delete", item, button);
  deleted.push($("gallery").children.length);
  const wide = document.documentElement.scrollWidth > innerWidth;
  document.title = JSON.stringify({
    captions: cards.map((card) => card.querySelector(".caption").textContent),
    facts: cards[0].querySelector(".facts").textContent, size: [video.videoWidth, video.videoHeight], again,
    problem, extended, deleted, notes, address: location.pathname + location.search, wide,
    given: [Object.keys(slots), $("loop-field").checkVisibility(), $("add-key").checkVisibility(),
      [...fields.extend.options].map((one) => one.value)],
  });
});
"""
)


@pytest.mark.slow
def test_a_server_that_is_killed_while_it_samples_leaves_its_gallery_whole(trained: Path, tmp_path: Path) -> None:
    options = ["--port", "0", "--out", str(tmp_path / "gallery"), "--set", "sample.device=cpu"]
    command = [sys.executable, "-m", "pipelines.cli", "serve", str(trained), *options]

    def started() -> tuple[subprocess.Popen[str], Visitor]:
        # A shell's background job ignores SIGINT, and so would the server.
        listens = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=listens)
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        port = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=\S+", url)[1]
        seen = SimpleNamespace(server_address=("127.0.0.1", int(port)), url=url)
        return process, Visitor(seen)  # type: ignore[arg-type]

    def until(holds: Callable[[], bool]) -> None:
        while not holds():
            threading.Event().wait(0.05)

    process, visitor = started()
    try:
        visitor.submit(num_steps=1)
        until(lambda: visitor.ask("GET", "/api/items").values["total"] == 1)
        visitor.submit(num_steps=5000)
        until(lambda: visitor.ask("GET", "/api/state").values["jobs"][-1]["share"] > 0)
    finally:
        process.kill()
        process.wait()
    files = sorted(path.name for path in (tmp_path / "gallery").iterdir() if path.is_file())
    process, visitor = started()
    try:
        [item] = visitor.ask("GET", "/api/items").values["items"]
        assert files == [item["name"].replace("mp4", "json"), item["name"]]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
