"""Several jobs on one dataset: each clip is captioned by one of them, also where one is killed."""

import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from caption.backends.base import CaptionRequest, CaptionResult, FailedRequest
from caption.backends.transformers_vlm import TransformersVlmConfig
from caption.provenance import Provenance
from caption.quality.config import ChecksConfig
from curate.dataset.dataset import Dataset
from curate.storage.claims import Claims
from curate.storage.lease import Occupied, hold, owners
from pipelines.config import load_config
from pipelines.drivers.caption import caption
from pipelines.steps import caption as caption_step
from pipelines.steps import shares
from pipelines.steps.shares import Shares
from tests.support.curated import curated
from tests.support.forks import forks
from tests.support.videos import moving, write_video

NUM_CLIPS = 12
SMALL = [
    "caption.max_attempts=1",
    "execute.executor=local",
    "execute.publish_every_s=0.01",
    "caption.prompts=plain-v1",
    "caption.batch_size=1",
    *(f"caption.checks.{name}=null" for name in ChecksConfig.model_fields),
]


class Writer:
    """Writes the mean color of the frames, and a line about each request; stands still after `num_answers`."""

    num_in_flight = 0
    checks = ()
    provenance = Provenance(backend="writer", model="writer", revision="1", fingerprint="writer")

    def __init__(self, log: Path, num_answers: int) -> None:
        self.log, self.left = log, num_answers

    def setup(self) -> None: ...

    def caption(self, requests: Sequence[CaptionRequest]) -> list[CaptionResult | FailedRequest]:
        for request in requests:
            while not self.left:
                time.sleep(0.02)
            self.left -= 1
            time.sleep(0.005)
            with self.log.open("a") as log:
                log.write(f"{os.getpid()} {_text(request)} {request.max_tokens}\n")
        return [
            CaptionResult(text=_text(one), finish_reason="stop", num_prompt_tokens=1, num_output_tokens=1)
            for one in requests
        ]


def _text(request: CaptionRequest) -> str:
    return "Colors " + "-".join(f"{value:.3f}" for value in request.frames.mean((0, 1, 2)).tolist())


def job(url: str, log: Path, num_answers: int, is_ready: Any = None) -> None:
    """One `reelpack caption`, with portions of two clips, that looks often."""
    TransformersVlmConfig.build = lambda config: Writer(log, num_answers)  # type: ignore[method-assign]
    caption_step.BATCHES_HERE, shares.POLL_S = 2, 0.02
    os.fsync = lambda _: None
    if is_ready is not None:
        is_ready.wait(60)
    caption(url, load_config(overrides=[*SMALL, f"caption.backend.model={log.parent}"]))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("shared")
    for seed in range(4, 4 + NUM_CLIPS - 2):
        write_video(folder / "films" / f"{seed}.mp4", moving(seed, 1.2))
    found = curated(folder)
    assert found.dataset.read_index().num_rows == NUM_CLIPS
    return found


@pytest.fixture
def jobs(made: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    out = Path(shutil.copytree(made.out, tmp_path / "dataset"))
    return SimpleNamespace(dataset=Dataset(str(out)), url=str(out), log=tmp_path / "requests.log")


def records(dataset: Dataset) -> list[dict[str, Any]]:
    (family,) = dataset.caption_families()
    rows = dataset.captions(family).rows()
    return [{name: row[name] for name in ("clip_id", "level", "variant", "text", "status", "attempt")} for row in rows]


def texts(jobs: SimpleNamespace) -> Counter[str]:
    """How often each request was asked, by clip and level."""
    return Counter(line.partition(" ")[2] for line in jobs.log.read_text().splitlines())


@pytest.fixture(scope="module")
def alone(made: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The records of one job that nothing disturbs."""
    folder = tmp_path_factory.mktemp("alone")
    out = str(shutil.copytree(made.out, folder / "dataset"))
    process = forks().Process(target=job, args=(out, folder / "requests.log", 10**6))
    process.start()
    process.join(100)
    assert process.exitcode == 0
    return records(Dataset(out))


def started(jobs: SimpleNamespace, *num_answers: int) -> list[Any]:
    all_ready = jobs.ready = forks().Barrier(len(num_answers))  # as long as the test: then it is removed
    processes = [forks().Process(target=job, args=(jobs.url, jobs.log, most, all_ready)) for most in num_answers]
    for process in processes:
        process.start()
    return processes


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_two_jobs_share_the_clips_and_give_the_records_of_one(
    jobs: SimpleNamespace, alone: list[dict[str, Any]]
) -> None:
    for process in (processes := started(jobs, 10**6, 10**6)):
        process.join(100)
    assert [process.exitcode for process in processes] == [0, 0]
    assert records(jobs.dataset) == alone
    assert set(texts(jobs).values()) == {1} and len(texts(jobs)) == 2 * NUM_CLIPS
    assert len({line.split()[0] for line in jobs.log.read_text().splitlines()}) == 2
    assert None not in jobs.dataset.read_index()["caption_dense"].to_pylist()


def test_what_a_killed_job_had_claimed_is_captioned_by_the_other(
    jobs: SimpleNamespace, alone: list[dict[str, Any]]
) -> None:
    stands_still, works = started(jobs, 3, 10**6)
    until(lambda: jobs.log.exists() and f"{stands_still.pid} " in jobs.log.read_text())
    until(lambda: len(jobs.log.read_text().splitlines()) >= NUM_CLIPS)
    assert works.is_alive(), "it waits for what the other has claimed"
    os.kill(stands_still.pid, signal.SIGKILL)
    works.join(100)
    assert works.exitcode == 0
    assert records(jobs.dataset) == alone
    assert texts(jobs).total() <= 2 * NUM_CLIPS + 3


def test_a_job_that_is_killed_is_resumed(jobs: SimpleNamespace, alone: list[dict[str, Any]]) -> None:
    (killed,) = started(jobs, 9)
    until(lambda: jobs.log.exists() and len(jobs.log.read_text().splitlines()) == 9)
    os.kill(killed.pid, signal.SIGKILL)
    killed.join(60)
    (again,) = started(jobs, 10**6)
    again.join(100)
    assert again.exitcode == 0 and records(jobs.dataset) == alone


def test_who_writes_captions_alone_and_jobs_that_share_exclude_each_other(jobs: SimpleNamespace) -> None:
    with jobs.dataset.shared_writer("captions"):
        with Dataset(jobs.url).shared_writer("captions"):
            pass
        with pytest.raises(Occupied), jobs.dataset.writer("captions"):
            pass
    with hold(jobs.url, "captions"), pytest.raises(Occupied), jobs.dataset.shared_writer("captions"):
        pass


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"


def portions(claims: Claims, work: str, clip_ids: Collection[str], least: int = 1) -> Shares:
    return Shares(claims, work, clip_ids, least=least, open_of=lambda ids: ids)


def test_claims_are_of_one_job_until_it_asks_for_more_or_ends(folder: str) -> None:
    clip_ids = [f"clip {number}" for number in range(40)]
    with hold(folder, "captions", is_shared=True) as one, hold(folder, "captions", is_shared=True) as other:
        mine = portions(Claims(one), "caption a", clip_ids).portions()
        first = next(mine)
        assert len(first) >= 20, "half of what there is"
        theirs = next(portions(Claims(other), "caption a", clip_ids).portions())
        assert not first & theirs
        assert 5 <= len(theirs) < 20, "a quarter of the rest: they are two"
        assert next(portions(Claims(other), "caption b", clip_ids).portions()) & first, "other settings, other work"
        mine.close()
        assert next(portions(Claims(other), "caption a", first).portions()) <= first


def test_what_another_job_has_done_meanwhile_is_left_out(folder: str) -> None:
    clip_ids = [f"clip {number}" for number in range(8)]
    with hold(folder, "captions", is_shared=True) as lease:
        found = Shares(Claims(lease), "caption a", clip_ids, least=2, open_of=lambda ids: {*ids} - {*clip_ids[:5]})
        assert sorted(one for portion in found.portions() for one in portion) == clip_ids[5:]
        assert [list(owner.claims) for owner in owners(folder)] == [[]]
