"""What is too large for memory is decided as what is not: row for row, and byte for byte in what is published."""

import shutil
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.dataset import ordered, store
from curate.dataset.dataset import Dataset
from curate.dataset.ordered import Follower, in_order, last_of_each
from curate.dataset.schemas import CAPTIONS
from curate.scan import ScanKeys
from pipelines.config import Config, load_config
from pipelines.steps.decide import decide, read_stored
from tests.support.engine import scanned_rows

NUM_CLIPS, PART = 300, 70
FAMILIES = {"sheen-1": {"sheen": pa.float64()}, "embedding-1": {"embedding": pa.list_(pa.float32())}}
SETTINGS = [
    "score.scorers=null",
    "select.rules.sheen.min_percentile=20",
    "select.rules.motion.min=0.2",
    "select.split.by=video",
    "select.split.val_fraction=0.3",
    "dedup.balance.num_clusters=3",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Clips with copies, some of them scored twice, cut twice or failed, in many parts in no order."""
    config, rng = load_config(overrides=SETTINGS), np.random.default_rng(0)
    dataset = Dataset(str(tmp_path_factory.mktemp("made") / "dataset"))
    videos, clips = scanned_rows(NUM_CLIPS, ScanKeys(config.scan).of("film.mp4"))
    dataset.videos.publish(videos)
    ids = [clip["clip_id"] for clip in clips]
    keys = [config.shards.key, "earlier"]
    tables = {family: dataset.scores(family, columns) for family, columns in FAMILIES.items()}
    for begin in range(0, NUM_CLIPS, PART):
        names = ids[begin : begin + PART]
        dataset.clips.publish(clips[begin : begin + PART])
        tables["embedding-1"].publish({"clip_id": name, "embedding": rng.normal(size=4).tolist()} for name in names)
        again = [*names, *rng.choice(ids, 5).tolist()]
        tables["sheen-1"].publish({"clip_id": name, "sheen": float(rng.random())} for name in again[7:])
        cut = [(name, key) for name in again for key in keys if rng.random() < 0.7]
        dataset.shards.publish(
            {"clip_id": name, "cut_key": key, "split": str(rng.choice(["train", "val"])), "digest": f"{key} {name}"}
            for name, key in cut
        )
        dataset.captions("model-1").publish(_caption(name, keys[0], rng) for name in again)
    steps = [(ids[0], "sheen-1", "sheen-1"), (ids[3], "score", "sheen-1+embedding-1"), (ids[9], "cut", keys[0])]
    dataset.failures.publish(
        {"subject": name, "step": step, "key": key, "kind": "io", "detail": "", "attempts": 1, "retryable": True}
        for name, step, key in steps
    )
    dataset.save_section("caption_family", "model-1")
    return SimpleNamespace(dataset=dataset, config=config)


def _caption(name: str, key: str, rng: np.random.Generator) -> dict[str, object]:
    empty = {field.name: 0 if pa.types.is_integer(field.type) else [] if pa.types.is_list(field.type) else ""
             for field in CAPTIONS if not field.nullable}  # fmt: skip
    finding = {"code": "caption_match", "status": "ok", "value": float(rng.random())}
    level = str(rng.choice(["short", "dense"]))
    digest = f"{key} {name}" if rng.random() < 0.8 else "of other bytes"
    text = {"text": f"{level} of {name}", "status": "ok", "media_digest": digest, "findings": [finding]}
    return {**empty, "clip_id": name, "level": level, **text}


def published(dataset: Dataset, config: Config) -> tuple[dict[str, int], list[pa.Table]]:
    counts = decide(dataset, read_stored(dataset, config, FAMILIES), config, FAMILIES, drop_failed=True)
    assert dataset.write_index(config.shards.key) == dataset.read_index().num_rows
    return dict(counts), [dataset.read_clips(), dataset.read_index()]


def test_tables_that_are_too_large_for_memory_are_decided_alike(
    made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, (clips, index) = published(made.dataset, made.config)
    assert {"keep", "reject:duplicate", "reject:sheen.min", "reject:motion.min"} <= counts.keys()
    assert clips.num_rows == NUM_CLIPS and 20 < index.num_rows < NUM_CLIPS
    assert index["caption_dense"].null_count not in (0, index.num_rows) and clips["caption_match"].null_count
    assert len(set(clips["balance_weight"].drop_null().to_pylist())) > 1
    for rows, chunk in ((0, 16), (150, 64)):
        with monkeypatch.context() as small:
            small.setattr(ordered, "IN_MEMORY", rows)
            small.setattr(ordered, "CHUNK", chunk)
            small.setattr(ordered, "PIECE_BYTES", 1000)
            again, tables = published(made.dataset, made.config)
        assert again == counts
        for found, wanted in zip(tables, (clips, index), strict=True):
            assert found.equals(wanted), f"chunks of {chunk}"


def decided_bytes(dataset: Dataset, config: Config) -> bytes:
    decide(dataset, read_stored(dataset, config, FAMILIES), config, FAMILIES, drop_failed=True)
    return Path(dataset.layout.clips).read_bytes()


def test_joined_clips_are_kept_until_a_table_changes(
    made: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made.dataset.url, tmp_path / "dataset")
    dataset = Dataset(str(tmp_path / "dataset"))
    published = decided_bytes(dataset, made.config)
    monkeypatch.setattr("pipelines.steps.decide.KEPT_FROM", 150)
    for name, value in (("IN_MEMORY", 150), ("CHUNK", 64)):
        monkeypatch.setattr(ordered, name, value)
    first = read_stored(dataset, made.config, FAMILIES, keep=True).clips.to_table()
    with monkeypatch.context() as joined:
        joined.setattr("pipelines.steps.decide.joined_tables", lambda *_: pytest.fail("joined again"))
        assert decided_bytes(dataset, made.config) == published
        other = made.config.model_copy(update={"select": made.config.select.model_copy(update={"rules": {}})})
        assert read_stored(dataset, other, FAMILIES, keep=True).clips.to_table().equals(first)
    dataset.scores("sheen-1", FAMILIES["sheen-1"]).publish([{"clip_id": first["clip_id"][20].as_py(), "sheen": 7.0}])
    stored = read_stored(dataset, made.config, FAMILIES)
    now = stored.clips.to_table()
    assert now["sheen"][20].as_py() == 7.0 and now.drop_columns(["sheen"]).equals(first.drop_columns(["sheen"]))


def test_rows_come_in_order_with_all_of_one_key_together_and_the_last_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    keys = [f"{number:04x}" for number in rng.integers(0, 300, 2000)]
    rows = pa.table({"id": keys, "level": rng.integers(0, 2, 2000), "place": np.arange(2000)})
    last = {(key, level): place for key, level, place in zip(*rows.to_pydict().values(), strict=True)}
    monkeypatch.setattr(ordered, "IN_MEMORY", 100)
    monkeypatch.setattr(ordered, "CHUNK", 50)
    monkeypatch.setattr(ordered, "PIECE_BYTES", 200)
    parts = [rows.slice(begin, 90) for begin in range(0, 2000, 90)]
    tables = list(last_of_each(in_order(parts, rows.schema, ["id", "level"]), ["id", "level"]))
    assert len(tables) > 5 and all(one["id"][-1].as_py() < other["id"][0].as_py() for one, other in pairwise(tables))
    found = pa.concat_tables(tables).to_pylist()
    assert [(row["id"], row["level"], row["place"]) for row in found] == [(*key, last[key]) for key in sorted(last)]
    follower, met = Follower(tables, "id"), 0
    for bound in ("0000", "0050", "0051", "00ff", None):
        of_bound = follower.until(bound)["id"].to_pylist()
        assert of_bound == [row["id"] for row in found[met:] if bound is None or row["id"] <= bound]
        met += len(of_bound)


def test_a_file_of_tables_has_one_layout_and_appears_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "ROW_GROUP", 10)
    rows = pa.table({"id": [str(number) for number in range(35)]})
    files = []
    for size in (35, 3, 10, 100):
        assert store.write_tables(f"{tmp_path}/{size}", (rows.slice(at, size) for at in range(0, 35, size))) == 35
        files.append((tmp_path / str(size)).read_bytes())
    assert len(set(files)) == 1 and pq.ParquetFile(f"{tmp_path}/3").num_row_groups == 4

    def ends():
        yield rows
        raise ValueError("lost")

    with pytest.raises(ValueError, match="lost"):
        store.write_tables(f"{tmp_path}/35", ends())
    assert (tmp_path / "35").read_bytes() == files[0]
    assert len(list(tmp_path.iterdir())) == 4
