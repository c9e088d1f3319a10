"""Search: what is nearest comes first, the clip itself is left out, and what cannot be searched for is told."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from curate.dataset.dataset import Dataset
from curate.dedup.semantic import SCALE, Embeddings
from curate.encoders.conse import ConseConfig
from curate.media.still import encode_png
from pipelines.cli import main
from pipelines.config import load_config
from pipelines.drivers.curate import curate
from pipelines.inspection.search import Query, nearest, search
from tests.support.curated import SETTINGS
from tests.support.scorers import only
from tests.support.videos import moving, write_video

BY_TEXT = f"score.scorers={only(embedding={'encoder': {'kind': 'conse'}})}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Films with embeddings of an image–text encoder."""
    folder = tmp_path_factory.mktemp("search")
    films, out = folder / "films", folder / "dataset"
    for seed in (1, 2, 3):
        write_video(films / f"{seed}.mp4", moving(seed, 1.5))
    settings = [
        *(one for one in SETTINGS if not one.startswith("score")),
        BY_TEXT,
        "select.rules={}",
        "dedup.perceptual.enabled=false",
    ]
    curate([str(films)], str(out), load_config(overrides=settings))
    return SimpleNamespace(out=out, url=str(out))


@pytest.fixture
def changed(made: SimpleNamespace, tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], object]], str]:
    """A copy of the dataset whose saved settings are changed."""

    def change(of: Callable[[dict[str, Any]], object]) -> str:
        out = Path(shutil.copytree(made.out, tmp_path / "dataset"))
        sections = yaml.safe_load((out / "config.yaml").read_text())
        of(sections["curate"])
        (out / "config.yaml").write_text(yaml.safe_dump(sections))
        return str(out)

    return change


def test_the_nearest_comes_first_and_of_equal_ones_the_smaller_id() -> None:
    angles = np.deg2rad([90, 10, 30, 10])
    vectors = np.rint(np.stack([np.cos(angles), np.sin(angles)], 1) * SCALE).astype(np.int16)
    found = nearest(Embeddings(ids=pa.array(["a", "b", "c", "d"]), vectors=vectors), np.array([1, 0], np.float32), 3)
    assert [name for name, _ in found] == ["b", "d", "c"]
    assert [cosine for _, cosine in found] == pytest.approx(np.cos(np.deg2rad([10, 10, 30])), abs=1e-3)


def test_a_query_of_another_width_is_told() -> None:
    stored = Embeddings(ids=pa.array(["a"]), vectors=np.ones((1, 3), np.int16))
    with pytest.raises(ValueError, match="2 numbers and the stored embeddings have 3"):
        nearest(stored, np.ones(2, np.float32), 1)


def test_a_text_is_compared_with_every_stored_embedding(made: SimpleNamespace) -> None:
    hits = search(made.url, Query(text="a dog on a beach"))
    assert len(hits) == 3
    assert [hit.cosine for hit in hits] == sorted((hit.cosine for hit in hits), reverse=True)
    other = search(made.url, Query(text="a page of text"))
    assert {hit.clip["clip_id"]: hit.cosine for hit in hits} != {hit.clip["clip_id"]: hit.cosine for hit in other}


def test_a_clip_finds_the_others_and_not_itself(made: SimpleNamespace) -> None:
    first, *others = (hit.clip["clip_id"] for hit in search(made.url, Query(text="anything")))
    assert {hit.clip["clip_id"] for hit in search(made.url, Query(clip=first[:10]))} == set(others)


def test_a_picture_is_compared_with_every_stored_embedding(made: SimpleNamespace, tmp_path: Path) -> None:
    rgb = moving(2, 1.5)[9]
    (tmp_path / "frame.png").write_bytes(encode_png(rgb))
    encoder = ConseConfig().build()
    encoder.setup()
    (family,) = Dataset(made.url).score_families()
    stored = Dataset(made.url).scores(family, {"embedding": pa.list_(pa.float32())}).rows()
    wanted = {row["clip_id"]: float(np.dot(row["embedding"], encoder.embed_images([rgb])[0])) for row in stored}
    hits = search(made.url, Query(picture=str(tmp_path / "frame.png")))
    assert {hit.clip["clip_id"]: hit.cosine for hit in hits} == pytest.approx(wanted, abs=2e-3)


def test_a_text_needs_an_encoder_of_texts(changed: Callable[..., str]) -> None:
    url = changed(
        lambda made_with: made_with["score"]["scorers"]["embedding"].update(encoder={"kind": "efficientnet_lite0"})
    )
    with pytest.raises(ValueError, match="knows pictures alone"):
        search(url, Query(text="a dog"))


def test_an_encoder_that_is_another_now_is_told(changed: Callable[..., str]) -> None:
    url = changed(lambda made_with: made_with["score"]["scorers"]["embedding"]["encoder"].update(num_classes=3))
    with pytest.raises(ValueError, match="by other weights"):
        search(url, Query(text="a dog"))


def test_only_clips_of_the_decision_are_found(made: SimpleNamespace) -> None:
    assert search(made.url, Query(text="a dog"), decision="reject") == []
    assert len(search(made.url, Query(text="a dog"), decision="all", count=2)) == 2


@pytest.mark.parametrize("given", [{}, {"text": "a dog", "clip": "00"}, {"text": " "}])
def test_one_thing_is_searched_for(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Query(**given)


def test_a_picture_that_cannot_be_read_and_an_unknown_clip_are_told(made: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match=r"--image /nowhere.png"):
        search(made.url, Query(picture="/nowhere.png"))
    with pytest.raises(ValueError, match="no clip of"):
        search(made.url, Query(clip="zz"))


def test_without_embeddings_the_command_that_makes_them_is_named(changed: Callable[..., str]) -> None:
    with pytest.raises(
        ValueError, match=r"no embeddings are stored.*reelpack curate .* --set 'score.scorers.embedding=\{\}'$"
    ):
        search(changed(lambda made_with: made_with.update(families=[])), Query(text="a dog"))


def test_the_command_prints_json_and_the_report_shows_the_clips(
    made: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(shutil.copytree(made.out, tmp_path / "dataset"))
    with pytest.raises(SystemExit) as stopped:
        main(["search", out, "a dog", "--json", "--top", "2"])
    assert stopped.value.code == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 2 and rows[0]["cosine"] >= rows[1]["cosine"]
    with pytest.raises(SystemExit):
        main(["report", out, "--search", "a dog <on> a beach"])
    page = Path(out, "report", "index.html").read_text().partition('id="search-0"')[2].partition("<section")[0]
    assert "a dog &lt;on&gt; a beach" in page
    assert [page.index(row["clip_id"]) for row in rows] == sorted(page.index(row["clip_id"]) for row in rows)
