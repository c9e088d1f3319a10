"""The family of backends: what all members keep, and that a member is one file and one line."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from caption.backends.base import BackendSettings
from caption.backends.config import BackendConfig
from caption.backends.embedded import NAME, EmbeddedConfig
from caption.backends.openai import OpenAiConfig
from caption.backends.transformers_vlm import TransformersVlmConfig
from caption.backends.vllm import VllmConfig
from caption.config import CaptionConfig
from curate.encoders.weights import MissingWeights
from pipelines.config import load_config, overrides
from tests.caption.backends.contract import check_member
from tests.support import fake_vllm
from tests.support.caption_server import MODEL, CaptionServer, request_of
from tests.support.contributing import family_with_example

MEMBERS = get_args(get_args(BackendConfig)[0])
SLOW = {EmbeddedConfig: pytest.mark.slow}


@pytest.fixture
def settings_of(tiny_vlm: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[type], BackendSettings]]:
    """Settings of a member. One whose settings have no defaults is given what its test needs here."""
    fake_vllm.install(monkeypatch)
    with CaptionServer(lambda body: str(request_of(body).frames.mean())) as server:
        given: dict[type, dict[str, Any]] = {
            TransformersVlmConfig: {"model": str(tiny_vlm), "dtype": "float32", "device": "cpu"},
            OpenAiConfig: {"base_url": server.url, "model": MODEL},
            VllmConfig: {"model": str(tiny_vlm)},
        }
        yield lambda member: member(**given.get(member, {}))


@pytest.mark.parametrize("member", [pytest.param(one, marks=SLOW.get(one, ())) for one in MEMBERS])
def test_every_backend_keeps_the_contract(member: type, settings_of: Callable[[type], BackendSettings]) -> None:
    settings = settings_of(member)
    try:
        settings.build().provenance  # noqa: B018
    except MissingWeights as missing:
        pytest.skip(str(missing))
    check_member(settings)


def test_the_example_of_the_page_is_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    config: ModuleType = family_with_example("A caption backend", monkeypatch)
    (added,) = set(get_args(get_args(config.BackendConfig)[0])) - set(MEMBERS)
    settings = TypeAdapter(Annotated[config.BackendConfig, None]).validate_python({"kind": "constant"})
    assert type(settings) is added
    check_member(settings)


def test_two_backends_have_different_keys(tiny_vlm: Path) -> None:
    keys = {
        CaptionConfig(backend=TransformersVlmConfig(model=str(tiny_vlm), **changes)).key
        for changes in ({}, {"dtype": "float32"}, {"temperature": 1.0}, {"temperature": 1.0, "seed": 1})
    }
    assert len(keys) == 4


def test_the_embedded_captioner_of_an_earlier_dataset_is_the_embedded_one() -> None:
    saved = {"kind": "transformers", "model": NAME, "revision": None, "dtype": "auto", "device": "cpu", "seed": 0}
    assert TypeAdapter(BackendConfig).validate_python(saved) == EmbeddedConfig(device="cpu")


def test_a_model_without_a_kind_runs_in_transformers() -> None:
    given = load_config(overrides=["caption.backend.model=org/vlm", "caption.backend.device=cpu"])
    assert given.caption.backend == TransformersVlmConfig(model="org/vlm", device="cpu")
    assert load_config(overrides=overrides(given)) == given
    assert load_config(overrides=["caption.backend.device=cpu"]).caption.backend == EmbeddedConfig(device="cpu")
    url = "http://localhost:8000/v1"
    given = load_config(
        overrides=[f"caption.backend.{one}" for one in ("kind=openai", f"base_url={url}", "model=org/vlm")]
    )
    assert given.caption.backend == OpenAiConfig(base_url=url, model="org/vlm")
    assert load_config(overrides=overrides(given)) == given
    with pytest.raises(ValidationError, match="model"):
        TransformersVlmConfig()  # type: ignore[call-arg]
