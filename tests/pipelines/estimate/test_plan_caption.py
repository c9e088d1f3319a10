"""The cost of captions is predicted from a few of them: the arithmetic, the error range, and what the probe leaves."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from caption import captioner
from caption.backends.base import CaptionRequest, CaptionResult, FailedRequest
from caption.backends.transformers_vlm import TransformersVlmConfig
from caption.item import Captioned
from caption.provenance import Provenance
from caption.quality.config import ChecksConfig
from pipelines.commands.plan import Nodes, show_captions
from pipelines.config import Config, load_config
from pipelines.drivers.caption import caption
from pipelines.estimate.plan_caption import Rates, plan, predicted
from tests.support.curated import copied, curated
from tests.support.videos import moving, write_video

NUM_CLIPS = 10


@dataclass
class Clock:
    now: float = 0.0

    def monotonic(self) -> float:
        return self.now


class Costly:
    """Takes `seconds[n]` for the n-th clip (two requests each), 100 prompt tokens and 20 of output per request."""

    checks = ()
    provenance = Provenance(backend="costly", model="costly", revision="1", fingerprint="costly")

    def __init__(self, clock: Clock, seconds: Sequence[float], num_in_flight: int = 0) -> None:
        self.clock, self.seconds, self.num_in_flight, self.asked = clock, seconds, num_in_flight, 0

    def setup(self) -> None: ...

    def caption(self, requests: Sequence[CaptionRequest]) -> list[CaptionResult | FailedRequest]:
        results: list[CaptionResult | FailedRequest] = []
        for request in requests:
            self.clock.now += self.seconds[self.asked % len(self.seconds)] / 2
            self.asked += 1
            finish = "length" if request.max_tokens == 96 else "stop"
            text = f"A film of number {self.asked}."
            results.append(
                CaptionResult(text=text, finish_reason=finish, num_prompt_tokens=100, num_output_tokens=20)  # type: ignore[arg-type]
            )
        return results


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("planned")
    for seed in range(4, 4 + NUM_CLIPS - 2):
        write_video(folder / "films" / f"{seed}.mp4", moving(seed, 1.2))
    return curated(folder)


@pytest.fixture
def made(films: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    return copied(films, tmp_path)


def by(costly: Costly, folder: Path, monkeypatch: pytest.MonkeyPatch, *settings: str) -> Config:
    monkeypatch.setattr(TransformersVlmConfig, "build", lambda config: costly)
    monkeypatch.setattr(captioner, "time", costly.clock)
    local = ["execute.executor=local", "caption.prompts=plain-v1", "caption.batch_size=1", "caption.max_attempts=1"]
    local += [f"caption.checks.{name}=null" for name in ChecksConfig.model_fields if name != "truncated"]
    return load_config(overrides=[*local, f"caption.backend.model={folder}", *settings])


def test_a_steady_captioner_is_predicted_exactly(made, tmp_path, monkeypatch):
    config = by(Costly(Clock(), [3.0]), tmp_path, monkeypatch)
    rates = Rates(per_hour=360.0, per_million_prompt_tokens=1000.0, per_million_output_tokens=2000.0)
    found = plan(made.url, config, num_sampled=4, rates=rates)
    assert (found.num_clips, found.num_probed, found.num_left) == (10, 4, 6)
    for estimate, value in (
        (found.total_s, 6 * 3.0),
        (found.prompt_tokens, 6 * 200),
        (found.output_tokens, 6 * 40),
        (found.rejected, 0.5),
        (found.retried, 0.0),
        (found.price, 18 * 0.1 + 1.2 + 0.48),
    ):
        assert estimate is not None
        assert [estimate.low, estimate.value, estimate.high] == pytest.approx([value] * 3)


def test_the_range_is_as_wide_as_the_clips_differ(made, tmp_path, monkeypatch):
    unequal = [1.0, 1.0, 9.0, 9.0]  # clips of 1 s and of 9 s take turns
    found = plan(made.url, by(Costly(Clock(), unequal), tmp_path, monkeypatch), num_sampled=8)
    assert found.total_s.value == pytest.approx(2 * 5.0)
    assert 2 * 1.0 <= found.total_s.low < 2 * 4.0 and 2 * 6.0 < found.total_s.high <= 2 * 9.0


def test_further_attempts_count(made, tmp_path, monkeypatch):
    config = by(Costly(Clock(), [3.0]), tmp_path, monkeypatch, "caption.max_attempts=2")
    found = plan(made.url, config, num_sampled=4)
    assert found.retried.value == 0.5 and found.rejected.value == 0.0
    assert found.prompt_tokens.value == 6 * 300 and found.price is None


def test_requests_in_flight_share_the_time():
    units = [[Captioned(records=(), asked_s=seconds, waited_s=100.0)] for seconds in (3.0, 5.0)]
    found = predicted(units, num_left=16, num_workers=2, num_in_flight=8, rates=Rates())
    assert found["total_s"].value == pytest.approx(16 * 4.0 / 16)


def test_the_probe_is_the_same_clips_again_and_its_captions_stay(made, tmp_path, monkeypatch, capsys):
    costly = Costly(Clock(), [3.0])
    config = by(costly, tmp_path, monkeypatch)
    show_captions(
        plan(made.url, config, num_sampled=30, rates=Rates(per_hour=2.0)), Nodes(count=1, price_per_hour=2.0)
    )
    said = capsys.readouterr().out
    assert "10 captioned by this probe" in said and "price" in said
    with pytest.raises(ValueError, match="every clip has its captions"):
        plan(made.url, config)
    asked = costly.asked
    assert caption(made.url, config).num_captions > 0 and costly.asked == asked


def test_what_cannot_be_planned_says_why(made, tmp_path, monkeypatch):
    config = by(Costly(Clock(), [3.0]), tmp_path, monkeypatch)
    with pytest.raises(ValueError, match="expected a model"):
        plan(made.url, load_config(overrides=["caption.backend=null"]))
    for shard in (made.out / "shards").glob("*.tar"):
        shard.unlink()
    with pytest.raises(ValueError, match=r"none of 10 clips got a caption; the first: io"):
        plan(made.url, config)
