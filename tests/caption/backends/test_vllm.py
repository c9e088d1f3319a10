"""The vLLM backend against `tests/support/fake_vllm.py`: vLLM's documented interface without a model. It shows which
calls are made and what becomes of their results and errors, not that vLLM captions."""

from pathlib import Path

import numpy as np
import pytest

from caption.backends.base import SAMPLING_TEMPERATURE, CaptionRequest, CaptionResult, FailedRequest
from caption.backends.vllm import Vllm, VllmConfig
from tests.support import fake_vllm


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Vllm:
    fake_vllm.install(monkeypatch)
    vllm = Vllm(VllmConfig(model=str(tmp_path), max_images=4))
    vllm.setup()
    return vllm


def request(prompt: str = "describe this video", num_frames: int = 2, **changes: object) -> CaptionRequest:
    frames = np.random.default_rng(0).integers(0, 256, (num_frames, 12, 16, 3), np.uint8)
    return CaptionRequest(**{"frames": frames, "prompt": prompt, "max_tokens": 8, **changes})  # type: ignore[arg-type]


def texts(outcomes: list[CaptionResult | FailedRequest]) -> list[str | None]:
    return [outcome.text if isinstance(outcome, CaptionResult) else None for outcome in outcomes]


def test_a_batch_is_one_call_of_the_engine_in_order(vllm: Vllm) -> None:
    requests = [request(f"number {row}", row % 3, max_tokens=4 + row) for row in range(4)]
    together = vllm.caption(requests)
    assert len(vllm._engine.calls) == 1
    assert together == [vllm.caption([one])[0] for one in requests]
    assert [outcome.finish_reason for outcome in together] == ["length"] * 3 + ["stop"]  # type: ignore[union-attr]


def test_a_request_that_the_engine_refuses_costs_no_other(vllm: Vllm) -> None:
    good, long, many = request(), request("word " * 80), request(num_frames=5)
    outcomes = vllm.caption([good, long, good, many])
    assert texts(outcomes) == [*texts(vllm.caption([good])), None, *texts(vllm.caption([good])), None]
    assert isinstance(outcomes[1], FailedRequest) and "longer than the maximum" in outcomes[1].detail
    assert isinstance(outcomes[3], FailedRequest) and "At most 4 image" in outcomes[3].detail


def test_a_dead_engine_is_no_failed_request(vllm: Vllm) -> None:
    with pytest.raises(fake_vllm.EngineDeadError):
        vllm.caption([request(), request(fake_vllm.LLM.dies_at)])


def test_a_request_says_how_it_is_decoded(vllm: Vllm) -> None:
    schema = {"type": "object"}
    vllm.caption([request(), request(seed=1, repetition_penalty=1.2), request(schema=schema)])
    ((_, (greedy, seeded, structured)),) = vllm._engine.calls
    assert (greedy.temperature, greedy.seed, greedy.structured_outputs) == (0.0, None, None)
    assert (seeded.temperature, seeded.repetition_penalty) == (SAMPLING_TEMPERATURE, 1.2) and seeded.seed
    assert structured.structured_outputs.json == schema


def test_without_vllm_the_extra_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"reelpack\[vllm\]"):
        Vllm(VllmConfig(model=str(tmp_path))).setup()
