"""Clips of the report by what is asked of them."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from curate.dataset.dataset import Dataset
from curate.report.data import DatasetView, read_dataset
from curate.report.finder import Search, find
from curate.report.projection import STEPS, Points, box_of, embedding_map, points, project


@pytest.fixture(scope="module")
def view(written) -> DatasetView:
    return read_dataset(str(written.dataset))


def found(view: DatasetView, **query: str) -> list[int]:
    return find(view, Search.of(query, view)).tolist()


def column(view: DatasetView, name: str, rows: list[int]) -> list[object]:
    return view.clips[name].take(rows).to_pylist()


def test_words_are_looked_for_in_files_captions_own_columns_and_ids(view: DatasetView) -> None:
    assert set(column(view, "video_id", found(view, q="PHONE.mp4"))) == {"phone"}
    assert found(view, q="crosses sky 3") == [3]
    assert column(view, "video_id", found(view, q="take bars")) == ["bars"]
    assert found(view, q=view.clips["clip_id"][5].as_py()[:9]) == [5]
    assert found(view, q="100%_") == []


def test_conditions_hold_together(view: DatasetView) -> None:
    rejected = found(view, decision="reject")
    assert set(column(view, "decision", rejected)) == {"reject"} and len(rejected) == view.count("reject")
    by_rule = found(view, reason="motion.min")
    assert by_rule and all("motion.min" in reasons for reasons in column(view, "reasons", by_rule))
    assert found(view, reason="motion.min", decision="keep") == []
    assert find(view, Search(), {view.clips["clip_id"][2].as_py()}).tolist() == [2]


def test_rows_without_a_value_are_last_in_both_orders(view: DatasetView) -> None:
    for descending in ("", "1"):
        values = column(view, "text_match", found(view, sort="text_match", descending=descending))
        known = [value for value in values if value is not None]
        assert len(known) < len(values) and values[: len(known)] == sorted(known, reverse=bool(descending))
    assert found(view, descending="1") == list(np.arange(view.clips.num_rows)[::-1])


@pytest.mark.parametrize(
    ("query", "said"),
    [({"decision": "kept"}, "expected one of keep"), ({"sort": "title"}, "no numeric column"),
     ({"page": "0"}, "from 1"), ({"page": "²"}, "from 1"), ({"by": "x"}, "expected meaning"),
     ({"q": "a" * 501}, "at most 500")],
)  # fmt: skip
def test_a_value_that_is_not_known_is_refused(view: DatasetView, query: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        found(view, **query)


def test_the_map_has_near_what_is_near_and_boxes_choose_from_it() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.eye(3, 20), 10, axis=0) * [[100]] + rng.normal(0, 1, (30, 20))
    places, share = project(groups.astype(np.float32))
    found = points_of(places)
    assert share > 0.9 and np.abs(places).max() == STEPS
    for start in (0, 10, 20):
        (left, bottom), (right, top) = (edge(places[start : start + 10], axis=0) / STEPS for edge in (np.min, np.max))
        inside = found.inside((left, bottom, right, top))
        assert inside == [str(row) for row in range(start, start + 10)]
    turned, _ = project(groups[::-1].astype(np.float32))
    assert np.abs(turned[::-1].astype(int) - places).max() <= 2, "the sign does not depend on the order"


def test_stored_embeddings_are_on_the_map_of_the_page(written, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    shutil.copytree(written.dataset, folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["curate"]["families"] = ["embedding-1"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    dataset = Dataset(str(folder))
    ids = dataset.read_clips()["clip_id"].to_pylist()
    table = dataset.scores("embedding-1", {"embedding": pa.list_(pa.float32())})
    vectors = np.random.default_rng(0).normal(0, 1, (len(ids), 8))
    table.publish({"clip_id": name, "embedding": list(vector)} for name, vector in zip(ids[1:], vectors, strict=False))
    view = read_dataset(str(folder))
    found = points(view)
    assert found is not None and list(found.ids) == sorted(ids[1:]) and found.total == len(ids)
    assert len(set(found.clusters)) > 1
    assert sorted(found.inside((-1, -1, 1, 1))) == sorted(ids[1:])
    assert f"{len(ids) - 1} of {len(ids)} clips" in embedding_map(view, found)
    assert points(read_dataset(str(written.dataset))) is None and embedding_map(view, None) == ""


def points_of(places: np.ndarray) -> Points:
    ids = tuple(map(str, range(len(places))))
    return Points(ids=ids, places=places, clusters=np.zeros(len(places), int), share=1.0, total=len(places))


def test_a_box_that_is_none_is_refused() -> None:
    assert box_of("") is None and box_of("-1,0,.5,1") == (-1, 0, 0.5, 1)
    for text in ("1,2,3", "a,b,c,d"):
        with pytest.raises(ValueError, match="left,bottom,right,top"):
            box_of(text)
