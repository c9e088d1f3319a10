"""Why clips have no text embedding is told from what is stored, with what to do about it."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from caption.record import Finding
from curate.dataset.captions import CaptionStatus, text_id
from pipelines.config import load_config
from pipelines.drivers.caption import caption as run_caption
from pipelines.drivers.curate import curate
from pipelines.drivers.review import review
from tests.support.curated import SETTINGS, caption, copied, curated
from train.data.uncaptioned import why_uncaptioned


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return curated(tmp_path_factory.mktemp("uncaptioned"))


@pytest.fixture
def made(films: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    found = copied(films, tmp_path)
    found.ids = sorted(found.dataset.read_index()["clip_id"].to_pylist())
    return found


def rejected(detail: str) -> Finding:
    return Finding(code="too_short", status=CaptionStatus.REJECTED, detail=detail)


def test_clips_without_captions_are_told_apart_from_those_that_are_not_embedded(made: SimpleNamespace) -> None:
    first, _ = made.ids
    assert why_uncaptioned(made.url, made.ids).startswith(
        f"2 clips have no caption: run `reelpack caption {made.url}`, then `reelpack encode {made.url}`"
    )
    caption(made.dataset, clips=[first])
    said = why_uncaptioned(made.url, made.ids)
    assert "1 clip has captions that are not embedded: run `reelpack encode" in said
    assert "1 clip has no caption: run `reelpack caption" in said
    assert "no caption" not in why_uncaptioned(made.url, [first])


def test_captions_that_a_check_rejects_are_told_with_their_reason_and_the_retry(made: SimpleNamespace) -> None:
    caption(made.dataset, ["short", "fields"], status="rejected", findings=[rejected("fewer than 3 words (2)")])
    said = why_uncaptioned(made.url, made.ids)
    assert said == (
        "2 clips have captions, none of which is used (2 × short rejected: fewer than 3 words): "
        f"run `reelpack retry {made.url} --step caption`, then `reelpack encode {made.url}`"
    )


def test_what_no_retry_mends_asks_for_another_model(made: SimpleNamespace) -> None:
    caption(made.dataset, status="unsure")
    said = why_uncaptioned(made.url, made.ids)
    assert "2 × short unsure" in said and "caption.backend.model=MODEL" in said and "reelpack retry" not in said


def test_rejected_titles_are_told_to_be_the_users_to_mend(made: SimpleNamespace) -> None:
    sidecar = made.out.parent / "own.csv"
    sidecar.write_text("path,title\n1.mp4,2014\n2.mp4,IMG_2034.MP4\n")
    curate([str(made.films)], made.url, load_config(overrides=SETTINGS), sidecar=str(sidecar))
    run_caption(made.url, load_config(overrides=["caption.backend=null", "caption.original=title"]))
    said = why_uncaptioned(made.url, made.ids)
    assert "2 × original rejected: a file's name is no caption" in said
    assert (
        "correct your own text in the sidecar or caption the clips by a model" in said and "reelpack retry" not in said
    )


def test_a_text_that_a_person_rejected_is_not_used(made: SimpleNamespace, tmp_path: Path) -> None:
    caption(made.dataset)
    lines = [
        {"clip_id": one, "level": "short", "action": "reject", "text_id": text_id(one, "short", f"caption of {one}")}
        for one in made.ids
    ]
    file = tmp_path / "review.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    review(made.url, str(file))
    assert "2 × short rejected" in why_uncaptioned(made.url, made.ids)


def test_a_dataset_without_its_tables_still_says_what_to_run(made: SimpleNamespace) -> None:
    caption(made.dataset, status="rejected")
    shutil.rmtree(made.out / "tables")
    assert "2 clips have no caption" in why_uncaptioned(made.url, made.ids)
