"""What `caption` says of captions, and who says it after it: counts by how they ended, and what a reader must know."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest

from caption.backends.base import CaptionRequest, CaptionResult, FailedRequest
from caption.backends.embedded import OTHER_MODEL, EmbeddedConfig
from caption.backends.transformers_vlm import TransformersVlmConfig
from caption.provenance import Provenance
from caption.quality.base import Check, Evidence, RecordKey
from caption.quality.config import ChecksConfig
from caption.quality.visible import VisibleConfig
from caption.record import CaptionRecord, Finding, Remedy
from curate.dataset.captions import CaptionStatus, text_id
from curate.dataset.store import Table
from curate.report.build import build_report
from curate.schema import FailureKind
from pipelines.cli import main
from pipelines.commands import caption as caption_command
from pipelines.commands import explain as explain_command
from pipelines.commands import status as status_command
from pipelines.config import Config, load_config, upgraded
from pipelines.dataset import config_of, step_command, step_config
from pipelines.drivers.caption import caption
from pipelines.drivers.curate import curate
from pipelines.drivers.export import export
from pipelines.drivers.review import review
from pipelines.inspection.explain import explain
from pipelines.inspection.status import status
from tests.support.caption_checks import OVERRIDES
from tests.support.curated import SETTINGS, copied, curated


class Foreign(Check):
    """Knows the first clips that it is shown."""

    def __init__(self, num_known: int) -> None:
        self._left = num_known

    def of_frames(self, frames: np.ndarray) -> Iterator[Finding]:
        self._left -= 1
        if self._left < 0:
            yield Finding(code="foreign", status=CaptionStatus.UNSURE, detail="it is foreign (distance 0.5)")


class Clerk:
    """Knows the first clips that it is shown, and ends its dense captions at the limit."""

    def __init__(self, version: str, num_known: int) -> None:
        libraries = {"no-such-library": version}
        self.provenance = Provenance(
            backend="clerk", model="clerk", revision="1", fingerprint="clerk", libraries=libraries
        )
        self.checks = (Foreign(num_known),)

    num_in_flight = 0

    def setup(self) -> None: ...

    def caption(self, requests: Sequence[CaptionRequest]) -> list[CaptionResult | FailedRequest]:
        return [
            CaptionResult(
                text="a film",
                finish_reason="stop" if request.max_tokens < 90 else "length",
                num_prompt_tokens=1,
                num_output_tokens=2,
            )
            for request in requests
        ]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return curated(tmp_path_factory.mktemp("captioned"))


@pytest.fixture
def made(films: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    return copied(films, tmp_path)


PLAIN = ("caption.prompts=plain-v1", "caption.max_attempts=1", *OVERRIDES)


def by(clerk: Clerk, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The configuration of a captioner that says of itself what the embedded one does."""
    monkeypatch.setattr(TransformersVlmConfig, "build", lambda config: clerk)
    monkeypatch.setattr(TransformersVlmConfig, "caveat", "a clerk")
    return load_config(overrides=["execute.executor=local", f"caption.backend.model={folder}", *PLAIN])


def test_captions_are_counted_by_how_they_ended_and_their_writer_is_named(made, tmp_path, monkeypatch, capsys):
    result = caption(made.url, by(Clerk("1", num_known=1), tmp_path, monkeypatch))
    assert result.states == {"ok": 1, "truncated": 1, "unsure": 2}
    assert result.reasons == ("2 × it is foreign", "1 × not finished after 96 tokens")
    assert (result.num_new, result.num_captions, result.levels) == (2, 1, {"short": 1})
    assert result.codes == {"foreign": 2, "truncated": 1}
    assert result.retry_command == f"reelpack retry {made.url} --step caption"
    caption_command.show(result)
    said = capsys.readouterr().out
    for words in ("unsure", "truncated", "no text: 2 × it is foreign", "the captions are by a clerk"):
        assert words in said

    found = status(made.url)
    assert found.captions[result.family] == {"ok": 1, "truncated": 1, "unsure": 2}
    assert found.captioned == {result.family: 1} and found.next_command.startswith("reelpack encode")
    status_command.show(found)
    said = capsys.readouterr().out
    assert "captions unsure" in said and "the captions are by a clerk" in said

    without = next(row for row in made.dataset.read_index().to_pylist() if not row["caption_short"])
    explain_command.show_explanation(explain(made.url, without["clip_id"]))
    assert "no text: it is foreign (distance 0.5)" in capsys.readouterr().out
    page = Path(build_report(made.url)).read_text()
    assert "The captions are by a clerk." in page and page.count("demo caption<") == 1
    export(made.url, str(tmp_path / "export"))
    assert '"caption_note": "a clerk"' in (tmp_path / "export/dataset.json").read_text()


def test_a_captioner_that_knows_no_clip_leads_to_another(made, tmp_path, monkeypatch):
    caption(made.url, by(Clerk("1", num_known=0), tmp_path, monkeypatch))
    found = status(made.url)
    assert found.next_command == f"reelpack caption {made.url} {OTHER_MODEL}"
    assert "wrote nothing of any clip" in found.why


def test_an_index_of_clips_that_another_reelpack_cut_is_refused_and_kept(made, monkeypatch):
    config, backend = scripted(lambda request: "a film", monkeypatch)
    section = made.dataset.sections()["curate"]
    encode = section["shards"]["encode"] | {"crf": 40}
    made.dataset.save_section("curate", {**section, "shards": {**section["shards"], "encode": encode}})
    with pytest.raises(ValueError, match=r"the 2 clips of the index are cut with other settings.*reelpack curate"):
        caption(made.url, config)
    assert made.dataset.read_index().num_rows == 2 and not backend.num_asked


def test_where_no_caption_passes_the_next_command_is_the_retry(made, monkeypatch):
    config, _ = scripted(lambda request: "", monkeypatch)
    retry = caption(made.url, config).retry_command
    found = status(made.url)
    assert found.next_command == retry and OTHER_MODEL in found.why and "passed the checks" in found.why


def test_captions_of_other_versions_of_the_libraries_are_told(made, tmp_path, monkeypatch):
    config = by(Clerk("1", num_known=2), tmp_path, monkeypatch)
    family = caption(made.url, config).family
    again = caption(made.url, config)
    assert again.num_new == 0 and len(again.notes) == 1
    table = made.dataset.captions(family)
    lost = table.rows()[0]["clip_id"]
    table.discard([(lost, "short", 0), (lost, "dense", 0)])
    assert "no-such-library 1 (here none)" in caption(made.url, config).notes[1]


OLD_CAPTIONS = pa.schema(
    [
        *((name, pa.string()) for name in ("clip_id", "media_digest", "kind", "text", "status", "reason")),
        *((name, pa.string()) for name in ("finish_reason", "model", "weights")),
        *((name, pa.string()) for name in ("prompt_id", "prompt_hash", "prompt_text", "sampling", "libraries")),
        ("frame_indices", pa.list_(pa.int64())),
        ("frame_times_s", pa.list_(pa.float64())),
        *((name, pa.int64()) for name in ("num_prompt_tokens", "num_output_tokens", "seed")),
    ]
)
"""Rows of caption tables before findings and provenance."""
OLD_BACKEND = {"kind": "transformers", "model": "reelpack-llava", "revision": None, "dtype": "auto", "seed": 0}


def test_a_dataset_that_an_earlier_reelpack_captioned_opens(made, monkeypatch, tmp_path, capsys):
    dataset = made.dataset
    settings = {"backend": OLD_BACKEND, "visible": {"min_contrast": 3.0, "min_sharpness": 0.0}, "num_frames": 2}
    dataset.save_section("curate", {**dataset.sections()["curate"], "caption": settings})
    dataset.save_section("caption", settings)
    clip, other = dataset.read_index().to_pylist()
    facts = dict.fromkeys(OLD_CAPTIONS.names, "") | {"frame_indices": [0], "frame_times_s": [0.0], "kind": "short"}
    facts |= {"num_prompt_tokens": 1, "num_output_tokens": 1, "seed": None, "model": "reelpack-llava"}
    table = Table(dataset.captions("old-1").url, OLD_CAPTIONS, ["clip_id", "kind"])
    table.publish(
        {**facts, "clip_id": row["clip_id"], "media_digest": row["digest"], "text": text, "status": status}
        for row, text, status in ((clip, "a rabbit", "ok"), (other, "", "unsure"))
    )
    dataset.save_section("caption_family", "old-1")
    dataset.write_index(config_of(dataset).shards.key)

    saved = Config.model_validate(upgraded({"caption": dataset.sections()["caption"]})).caption
    assert saved.checks.visible == VisibleConfig(min_contrast=3.0, min_sharpness=0.0)
    assert saved.backend == EmbeddedConfig()
    assert status(made.url).captions["old-1"] == {"ok": 1, "unsure": 1}
    assert "caption.checks.visible.min_contrast=3.0" in step_command(dataset, "caption")
    texts = {row["clip_id"]: row["caption_short"] for row in dataset.read_index().to_pylist()}
    assert texts == {clip["clip_id"]: "a rabbit", other["clip_id"]: None}
    explain_command.show_explanation(explain(made.url, other["clip_id"]))
    assert "by an earlier reelpack" in (said := capsys.readouterr().out) and "no text: unsure" in said
    assert caption(made.url, by(Clerk("1", num_known=2), tmp_path, monkeypatch)).num_new == 2
    with pytest.raises(ValueError, match=r"caption\.visible: is called caption\.checks\.visible now"):
        load_config(overrides=["caption.visible.min_contrast=3"])


class Scripted:
    """Answers by a function of the request."""

    checks: Sequence[Check] = ()
    num_in_flight = 0
    provenance = Provenance(backend="scripted", model="scripted", revision="1", fingerprint="scripted")

    def __init__(self, answer: Callable[[CaptionRequest], str | FailedRequest]) -> None:
        self.answer, self.num_asked = answer, 0

    def setup(self) -> None: ...

    def caption(self, requests: Sequence[CaptionRequest]) -> list[CaptionResult | FailedRequest]:
        self.num_asked += len(requests)
        return [self._one(request) for request in requests]

    def _one(self, request: CaptionRequest) -> CaptionResult | FailedRequest:
        said = self.answer(request)
        if isinstance(said, FailedRequest):
            return said
        return CaptionResult(text=said, finish_reason="stop", num_prompt_tokens=1, num_output_tokens=2)


def run(*arguments: str) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    return int(stopped.value.code or 0)


def scripted(
    answer: Callable[[CaptionRequest], str | FailedRequest], monkeypatch: pytest.MonkeyPatch, *overrides: str
) -> tuple[Config, Scripted]:
    backend = Scripted(answer)
    monkeypatch.setattr(TransformersVlmConfig, "build", lambda config: backend)
    monkeypatch.setattr(TransformersVlmConfig, "pinned", lambda config: config)
    settings = [
        "execute.executor=local",
        "caption.backend.model=scripted",
        "caption.prompts=plain-v1",
        *OVERRIDES,
        *overrides,
    ]
    return load_config(overrides=settings), backend


def test_a_caption_that_no_attempt_passes_is_a_failure_that_retry_attempts(made, monkeypatch, capsys):
    is_fixed = False

    def answer(request: CaptionRequest) -> str:
        return "" if "detail" in request.prompt and not is_fixed else f"clip {request.frames.sum()} moves"

    config, backend = scripted(answer, monkeypatch)
    first = caption(made.url, config)
    assert (first.num_new, first.num_captions, first.states) == (2, 2, {"ok": 2, "empty": 2})
    (group,) = [one for one in status(made.url).failures if one.step == "caption"]
    retry = f"reelpack retry {made.url} --step caption"
    assert (group.kind, group.num_failed, group.max_attempts, group.retry_command) == ("rejected", 2, 1, retry)
    assert first.retry_command == retry and group.is_worth_retrying

    asked = backend.num_asked
    assert caption(made.url, config).num_new == 0 and backend.num_asked == asked, "a plain rerun asks no model again"
    is_fixed = True
    assert run(*retry.split()[1:], "--executor", "local") == 0
    assert "to attempt again" not in capsys.readouterr().out
    assert [one.step for one in status(made.url).failures] == ["scan"]
    table = made.dataset.captions(first.family).rows()
    dense = [row for row in table if row["level"] == "dense"]
    assert [(row["status"], row["attempt"], len(row["earlier"])) for row in dense] == [("ok", 4, 3)] * 2
    assert run("retry", made.url, "--step", "cut") == 2


def test_a_request_that_fails_is_made_again_for_its_level_alone(made, monkeypatch):
    is_down = True

    def answer(request: CaptionRequest) -> str | FailedRequest:
        if "detail" in request.prompt and is_down:
            return FailedRequest(kind=FailureKind.TIMEOUT, detail="no answer in 60 s")
        return f"clip {request.frames.sum()} moves"

    config, backend = scripted(answer, monkeypatch)
    first = caption(made.url, config)
    assert (first.num_failed, first.levels) == (2, {"short": 2})
    (group,) = [one for one in status(made.url).failures if one.step == "caption"]
    retry = f"reelpack retry {made.url} --step caption"  # has the settings of this run
    assert (group.kind, group.num_failed, group.retry_command) == ("timeout", 2, retry)
    is_down = False
    asked = backend.num_asked
    assert run(*retry.split()[1:], "--executor", "local") == 0
    assert caption(made.url, config).levels == {"short": 2, "dense": 2}
    assert backend.num_asked == asked + 2, "the short captions are there"
    assert [one.step for one in status(made.url).failures] == ["scan"]


class Twins(Check):
    """Finds texts that several clips have."""

    reads: ClassVar = "corpus"
    remedies: ClassVar = {"twin": (Remedy.SEED,)}

    def of_corpus(self, records: pa.Table, groups: Mapping[str, str]) -> Mapping[RecordKey, Sequence[Finding]]:
        rows = records.to_pylist()
        counted = Counter((row["level"], row["text"]) for row in rows)
        found = Finding(code="twin", status=CaptionStatus.REJECTED, detail="other clips have it", remedy=Remedy.SEED)
        return {
            (row["clip_id"], row["level"], row["variant"]): [found]
            for row in rows
            if counted[row["level"], row["text"]] > 1
        }


@pytest.mark.parametrize("is_mended", [True, False])
def test_captions_that_repeat_each_other_are_attempted_again_then_rejected(made, monkeypatch, is_mended):
    def answer(request: CaptionRequest) -> str:
        if "detail" in request.prompt:
            return f"clip {request.frames.sum()} moves"
        return f"a film {request.frames.sum()}" if request.seed and is_mended else "a film"

    config, backend = scripted(answer, monkeypatch, "caption.max_attempts=2")
    monkeypatch.setattr(ChecksConfig, "build", lambda config: (Twins(),))
    result = caption(made.url, config)
    short = [row for row in made.dataset.captions(result.family).rows() if row["level"] == "short"]
    assert backend.num_asked == 4 + 2
    assert [(row["attempt"], [one["codes"] for one in row["earlier"]]) for row in short] == [(2, [["twin"]])] * 2
    assert result.levels == ({"short": 2, "dense": 2} if is_mended else {"dense": 2})
    assert {row["status"] for row in short} == {"ok" if is_mended else "rejected"}
    assert caption(made.url, config).states == result.states and backend.num_asked == 6


def test_a_run_that_was_stopped_before_repeated_captions_were_attempted_again_ends_the_same(made, monkeypatch):
    is_killed = True

    def answer(request: CaptionRequest) -> str:
        if request.seed and is_killed:
            raise OSError("killed")
        return f"a film {request.frames.sum()}" if request.seed or "detail" in request.prompt else "a film"

    config, _ = scripted(answer, monkeypatch, "caption.max_attempts=2")
    monkeypatch.setattr(ChecksConfig, "build", lambda config: (Twins(),))
    with pytest.raises(OSError, match="killed"):
        caption(made.url, config)
    is_killed = False
    assert caption(made.url, config).states == {"ok": 4}


def test_a_text_that_a_person_accepts_is_not_attempted_again(made, monkeypatch):
    config, backend = scripted(lambda request: f"a film {request.frames.sum()} of {request.seed}", monkeypatch)
    monkeypatch.setattr(ChecksConfig, "build", lambda config: (NothingPasses(),))
    first = caption(made.url, config)
    assert first.retry_command
    rows = made.dataset.captions(first.family).rows()
    judged = [
        {"action": "accept", "text_id": text_id(row["clip_id"], row["level"], row["text"])}
        | {name: row[name] for name in ("clip_id", "level")}
        for row in rows
    ]
    file = made.out.parent / "review.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in judged))
    review(made.url, str(file))
    assert [one.step for one in status(made.url).failures] == ["scan"]
    asked = backend.num_asked
    again = caption(made.url, config, retry=True)
    assert (again.num_captions, again.retry_command, backend.num_asked) == (4, None, asked)


class NothingPasses(Check):
    def of_caption(self, record: CaptionRecord, evidence: Evidence) -> Iterator[Finding]:
        yield Finding(code="no", status=CaptionStatus.REJECTED, detail="no", remedy=Remedy.SEED)


def test_variants_are_not_for_a_model_to_attempt_again(made, monkeypatch):
    fields = json.dumps({"subjects": ["a red car"], "actions": ["The car turns left"], "scene": "a crossing"})
    config, _ = scripted(
        lambda request: fields if request.schema else "a car turns",
        monkeypatch,
        "caption.prompts=fields-v1",
        "caption.variants=1",
    )
    monkeypatch.setattr(ChecksConfig, "build", lambda config: (NoVariant(),))
    result = caption(made.url, config)
    assert result.states == {"ok": 6, "rejected": 2} and result.retry_command is None
    assert [one.step for one in status(made.url).failures] == ["scan"]


class NoVariant(Check):
    def of_caption(self, record: CaptionRecord, evidence: Evidence) -> Iterator[Finding]:
        if record.variant:
            yield Finding(code="no", status=CaptionStatus.REJECTED, detail="no", remedy=Remedy.SEED)


def test_a_run_without_a_model_keeps_how_the_captioner_is_retried(made, monkeypatch):
    config, _ = scripted(lambda request: "a film", monkeypatch)
    family = caption(made.url, config).family
    made.dataset.save_section("original_column", None)
    sidecar = made.out.parent / "own.csv"
    sidecar.write_text("path,title\n1.mp4,A square moves\n")
    curate([str(made.films)], made.url, load_config(overrides=SETTINGS), sidecar=str(sidecar))
    caption(made.url, load_config(overrides=["caption.backend=null", "caption.original=title"]))
    kept = step_config(made.dataset, "caption").caption
    assert (kept.family, kept.original) == (family, "title")


def test_other_settings_of_a_text_check_judge_the_stored_texts_again(made, monkeypatch):
    """No clip is decoded and no model is asked."""
    config, backend = scripted(lambda request: f"A red car passes house {request.max_tokens} slowly", monkeypatch)
    loose = "caption.checks.invented=null"
    config = load_config(overrides=[loose], base=config)
    first = caption(made.url, config)
    assert first.states == {"ok": 4}
    asked = backend.num_asked
    strict = load_config(overrides=["caption.checks.length.short_min_words=20"], base=config)
    second = caption(made.url, strict)
    assert second.family == first.family and backend.num_asked == asked
    assert second.states == {"ok": 2, "rejected": 2} and set(second.levels) == {"dense"}
    assert [one.kind for one in status(made.url).failures if one.step == "caption"] == ["rejected"]
    parts = made.dataset.captions(first.family).part_names()
    assert caption(made.url, strict).states == second.states
    assert made.dataset.captions(first.family).part_names() == parts, "the same settings judge nothing again"
    again = caption(made.url, config)
    assert (again.states, again.levels) == ({"ok": 4}, {"short": 2, "dense": 2}) and backend.num_asked == asked
    assert [one.step for one in status(made.url).failures] == ["scan"]


def test_a_run_that_is_killed_leaves_its_settings_to_retry(made, monkeypatch):
    num_left = 3

    def answer(request: CaptionRequest) -> str:
        nonlocal num_left
        num_left -= 1
        if not num_left:
            raise OSError("killed")
        return f"clip {request.frames.sum()} moves"

    config, _ = scripted(answer, monkeypatch, "caption.batch_size=1", "execute.publish_every_s=0.0001")
    with pytest.raises(OSError, match="killed"):
        caption(made.url, config)
    kept = step_config(made.dataset, "caption").caption
    assert kept == config.caption and made.dataset.caption_family == config.caption.family
    assert status(made.url).captioned == {config.caption.family: 1}
    assert run("retry", made.url, "--step", "caption", "--executor", "local") == 0
    assert status(made.url).captioned == {config.caption.family: 2}


def test_a_killed_run_of_other_settings_leaves_those_of_the_captions_that_count(made, monkeypatch):
    is_killed = False

    def answer(request: CaptionRequest) -> str:
        if is_killed and "detail" in request.prompt:
            raise OSError("killed")
        return f"clip {request.frames.sum()} moves"

    config, _ = scripted(answer, monkeypatch, "execute.publish_every_s=0.0001")
    family = caption(made.url, config).family
    is_killed = True
    other = load_config(overrides=["caption.dense_max_tokens=7"], base=config)
    with pytest.raises(OSError, match="killed"):
        caption(made.url, other)
    assert made.dataset.caption_family == family and step_config(made.dataset, "caption").caption == config.caption


def test_a_model_that_cannot_be_loaded_changes_no_settings(made, monkeypatch):
    config, backend = scripted(lambda request: "a film", monkeypatch)

    def missing() -> None:
        raise ValueError("no such model")

    monkeypatch.setattr(backend, "setup", missing)
    with pytest.raises(ValueError, match="no such model"):
        caption(made.url, config)
    assert not {"caption", "caption_family"} & made.dataset.sections().keys()


def test_fields_alone_are_no_captions_to_train_on(made, monkeypatch, capsys):
    fields = json.dumps({"subjects": ["a red car"], "actions": ["The car turns left"], "scene": "a crossing"})
    down = FailedRequest(kind=FailureKind.TIMEOUT, detail="no answer in 60 s")
    is_down = True
    config, _ = scripted(
        lambda request: fields if request.schema else down if is_down else f"a car turns {request.frames.sum()} ways",
        monkeypatch,
        "caption.prompts=fields-v1",
    )
    result = caption(made.url, config)
    assert (result.num_captions, result.levels, result.num_failed) == (0, {"fields": 2}, 2)
    caption_command.show(result)
    shown = " ".join(capsys.readouterr().out.split())
    assert "no clip has a caption to train on: 2 have fields alone" in shown and "not trained on" in shown
    assert "failed: 2 × timeout: short caption: no answer in 60 s" in shown and "reelpack retry" in shown
    retry = f"reelpack retry {made.url} --step caption"
    assert status(made.url).next_command == retry
    assert run(*retry.split()[1:], "--executor", "local") == 1
    is_down = False
    assert run(*retry.split()[1:], "--executor", "local") == 0
    assert status(made.url).next_command.startswith("reelpack encode")


def test_a_clip_of_which_two_runs_of_the_stage_fail_counts_once(made, monkeypatch):
    """First of all clips, then of those that repeat each other."""
    num_asked = Counter()

    def answer(request: CaptionRequest) -> str | FailedRequest:
        num_asked[request.prompt] += 1
        if "detail" in request.prompt:
            return "a film"
        return FailedRequest(kind=FailureKind.TIMEOUT, detail="no answer in 60 s")

    config, _ = scripted(answer, monkeypatch, "caption.max_attempts=2")
    monkeypatch.setattr(ChecksConfig, "build", lambda config: (Twins(),))
    result = caption(made.url, config)
    assert result.num_failed == 2 and max(num_asked.values()) == 2, "a clip that failed is not attempted again"


def test_captions_of_other_settings_are_told_to_be_unused(made, monkeypatch, capsys):
    config, _ = scripted(lambda request: f"clip {request.frames.sum()} moves", monkeypatch)
    first = caption(made.url, load_config(overrides=["caption.dense_max_tokens=7"], base=config)).family
    second = caption(made.url, config).family
    status_command.show(status(made.url))
    lines = capsys.readouterr().out.splitlines()
    (unused,) = [line for line in lines if f"captioned by {first}" in line]
    (used,) = [line for line in lines if f"captioned by {second}" in line]
    assert "2 of 2, not used" in unused and "not used" not in used and lines.index(used) < lines.index(unused)


class Tic(Check):
    """Marks every text, and leaves it usable."""

    reads: ClassVar = "corpus"
    remedies: ClassVar = {"tic": ()}

    def of_corpus(self, records: pa.Table, groups: Mapping[str, str]) -> Mapping[RecordKey, Sequence[Finding]]:
        found = Finding(code="tic", status=CaptionStatus.OK, detail="others begin so, too")
        return {(row["clip_id"], row["level"], row["variant"]): [found] for row in records.to_pylist()}


def test_a_record_is_marked_once_with_what_all_captions_show(made, monkeypatch):
    config, _ = scripted(lambda request: f"clip {request.frames.sum()} moves", monkeypatch)
    monkeypatch.setattr(ChecksConfig, "build", lambda config: (Tic(),))
    family = caption(made.url, config).family
    parts = made.dataset.captions(family).part_names()
    assert caption(made.url, config).codes == {"tic": 4}
    assert made.dataset.captions(family).part_names() == parts
