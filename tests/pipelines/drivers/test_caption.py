"""What `caption` says of captions, and who says it after it: counts by how they ended, and what a reader must know."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from caption.backends.base import CaptionRequest, CaptionResult
from caption.backends.transformers_config import TransformersVlmConfig
from curate.report.build import build_report
from pipelines.commands import caption as caption_command
from pipelines.commands import explain as explain_command
from pipelines.commands import status as status_command
from pipelines.config import Config, load_config
from pipelines.drivers.caption import caption
from pipelines.drivers.export import export
from pipelines.inspection.explain import explain
from pipelines.inspection.status import status
from tests.support.curated import copied, curated


class Clerk:
    """Knows one clip of those that it is shown, and ends its dense captions at the limit."""

    weights_id, sampling = "clerk", {"do_sample": False}

    def __init__(self, version: str, num_known: int) -> None:
        self.libraries = {"no-such-library": version}
        self._num_known = num_known

    def setup(self) -> None: ...

    def unsure(self, clips: Sequence[np.ndarray]) -> list[str | None]:
        return [None] * self._num_known + ["it is foreign (distance 0.5)"] * (len(clips) - self._num_known)

    def caption(self, requests: Sequence[CaptionRequest]) -> list[CaptionResult]:
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


def by(clerk: Clerk, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The configuration of a captioner that says of itself what the embedded one does."""
    monkeypatch.setattr(TransformersVlmConfig, "build", lambda config: clerk)
    monkeypatch.setattr(TransformersVlmConfig, "caveat", "a clerk")
    return load_config(overrides=["execute.executor=local", f"caption.backend.model={folder}"])


def test_captions_are_counted_by_how_they_ended_and_their_writer_is_named(made, tmp_path, monkeypatch, capsys):
    result = caption(made.url, by(Clerk("1", num_known=1), tmp_path, monkeypatch))
    assert result.states == {"ok": 1, "truncated": 1, "unsure": 2}
    assert result.reasons == ("2 × it is foreign",)
    assert (result.num_new, result.num_captions) == (2, 2)
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
    assert "The captions are by a clerk." in page and page.count("demo caption<") == 2  # short and dense of one clip
    export(made.url, str(tmp_path / "export"))
    assert '"caption_note": "a clerk"' in (tmp_path / "export/dataset.json").read_text()


def test_a_captioner_that_knows_no_clip_leads_to_another(made, tmp_path, monkeypatch):
    caption(made.url, by(Clerk("1", num_known=0), tmp_path, monkeypatch))
    found = status(made.url)
    assert found.next_command == f"reelpack caption {made.url} --set caption.backend.model=MODEL"
    assert "wrote nothing of any clip" in found.why


def test_captions_of_other_versions_of_the_libraries_are_told(made, tmp_path, monkeypatch):
    config = by(Clerk("1", num_known=2), tmp_path, monkeypatch)
    family = caption(made.url, config).family
    again = caption(made.url, config)
    assert again.num_new == 0 and len(again.notes) == 1
    table = made.dataset.captions(family)
    lost = table.rows()[0]["clip_id"]
    table.discard([(lost, "short"), (lost, "dense")])
    assert "no-such-library 1 (here none)" in caption(made.url, config).notes[1]
