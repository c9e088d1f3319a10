"""`reelpack caption` of a dataset through an HTTP endpoint: the texts of the same model without one, failures clip by
clip, and the key nowhere in what is written."""

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from caption.backends.base import CaptionResult
from caption.backends.openai import LostEndpoint
from caption.backends.transformers_vlm import TransformersVlm, TransformersVlmConfig
from curate.dataset.dataset import Dataset
from pipelines.config import Config, load_config
from pipelines.drivers.caption import caption
from tests.support.caption_server import MODEL, CaptionServer, Fault, error, request_of
from tests.support.curated import copied, curated
from tests.support.terminal import on_terminal
from tests.support.vlm_checkpoints import write_checkpoint

KEY = "sk-live-0123456789abcdefghijkl"
PLAIN = (
    "execute.executor=local", "caption.prompts=plain-v1", "caption.max_attempts=1", "caption.short_max_tokens=4",
    "caption.dense_max_tokens=6",
)  # fmt: skip


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return curated(tmp_path_factory.mktemp("endpoint"))


@pytest.fixture
def made(films: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    return copied(films, tmp_path)


def through(server: CaptionServer, **changes: object) -> Config:
    given = {"kind": "openai", "base_url": server.url, "model": MODEL, "retry_wait_s": 0.001, "max_retries": 1}
    return load_config(
        overrides=[*PLAIN, *(f"caption.backend.{name}={value}" for name, value in (given | changes).items())]
    )


def texts(dataset: Dataset, family: str | None) -> dict[tuple[str, str], str]:
    assert family is not None
    return {(row["clip_id"], row["level"]): row["text"] for row in dataset.captions(family).read().to_pylist()}


def test_the_texts_are_those_of_the_same_model_in_transformers(made: SimpleNamespace, tmp_path: Path) -> None:
    folder = write_checkpoint("llava", tmp_path / "model")
    settings = {"model": str(folder), "dtype": "float32", "device": "cpu"}
    overrides = [*PLAIN, *(f"caption.backend.{name}={value}" for name, value in settings.items())]
    direct = caption(made.url, load_config(overrides=overrides))
    vlm, lock = TransformersVlm(TransformersVlmConfig(**settings)), threading.Lock()
    vlm.setup()

    def answer(body: Mapping[str, Any]) -> CaptionResult:
        with lock:
            (result,) = vlm.caption([request_of(body)])
        assert isinstance(result, CaptionResult)
        return result

    with CaptionServer(answer) as server:
        over_http = caption(made.url, through(server, image_format="png"))
    assert texts(made.dataset, over_http.family) == texts(made.dataset, direct.family)
    assert len(set(texts(made.dataset, direct.family).values())) > 2
    (revision,) = {
        row["provenance"]["revision"] for row in made.dataset.captions(over_http.family or "").read().to_pylist()
    }
    assert revision == MODEL, "the record has what the server says of itself"


@pytest.mark.ray
@pytest.mark.usefixtures("private_ray")
def test_the_records_on_ray_are_those_of_this_process(films: SimpleNamespace, tmp_path: Path) -> None:
    folder = write_checkpoint("llava", tmp_path / "model")
    settings = {"model": str(folder), "dtype": "float32", "device": "cpu"}
    overrides = [*PLAIN, *(f"caption.backend.{name}={value}" for name, value in settings.items())]
    here, there = copied(films, tmp_path / "here"), copied(films, tmp_path / "there")
    family = caption(here.url, load_config(overrides=overrides)).family
    on_ray = ["execute.executor=ray", "execute.publish_every_s=0.1", "caption.batch_size=1"]
    assert caption(there.url, load_config(overrides=[*overrides, *on_ray])).family == family
    records = here.dataset.captions(family or "").rows()
    assert there.dataset.captions(family or "").rows() == records and len(records) == 4


def test_a_clip_that_fails_is_attempted_by_the_next_run(made: SimpleNamespace) -> None:
    with CaptionServer() as server:
        server.faults = [Fault(body="<html>")]
        first = caption(made.url, through(server, num_in_flight=1))
        assert (first.num_failed, len(texts(made.dataset, first.family))) == (1, 3)
        second = caption(made.url, through(server))
    assert (second.num_failed, len(texts(made.dataset, second.family))) == (0, 4)


def test_a_key_that_is_refused_in_the_middle_ends_the_job_and_what_is_captioned_stays(made: SimpleNamespace) -> None:
    with CaptionServer() as server:
        config = through(server)
        server.faults = [Fault(), Fault(status=401, body=error("revoked", "x"))]
        with pytest.raises(LostEndpoint, match="asks for a key"):
            caption(made.url, config)
        assert len(texts(made.dataset, caption(made.url, config).family)) == 4


def test_ctrl_c_does_not_wait_for_a_slow_endpoint(made: SimpleNamespace) -> None:
    program = "import sys; from pipelines.cli import main; main(sys.argv[1:])"
    with CaptionServer(latency_s=600) as server:
        backend = f"caption.backend={{kind: openai, base_url: {server.url}, model: {MODEL}}}"
        ended = on_terminal(
            ["-c", program, "caption", made.url, "--set", backend],
            columns=200, limit_s=60, interrupt_at=lambda screen: bool(server.bodies),
        )  # fmt: skip
    assert ended.code == 130 and "the same command resumes" in ended.screen


def test_the_key_is_in_no_file_and_no_message(
    made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("THE_KEY", KEY)
    with CaptionServer(lambda body: f"a video of {KEY}", key=KEY) as server, caplog.at_level(logging.DEBUG):
        server.faults = [Fault(status=500, body=error(f"the key {KEY} is wrong", KEY))] * 2
        caption(made.url, through(server, api_key_env="THE_KEY", num_in_flight=1))
        server.faults = [Fault(status=401, body=error(f"the key {KEY} is wrong", KEY))] * 4
        with pytest.raises(LostEndpoint) as lost:
            caption(made.url, through(server, api_key_env="THE_KEY", revision="v2"))
    assert server.bodies
    said = "".join((caplog.text, *capfd.readouterr(), str(lost.value)))
    assert KEY not in said and "[key]" in str(lost.value)
    for file in made.out.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file
