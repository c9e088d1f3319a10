"""Copies made of real shots, through the real scan; `python -m benchmarks.dedup` is the long form."""

import itertools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curate.dedup.best import best
from curate.dedup.config import DedupConfig
from curate.dedup.groups import find_groups
from tests.support.copies import COPIES, DEMO, copies_of_shots

NUM_SHOTS = 2


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder: Path = tmp_path_factory.mktemp("copies")
    return copies_of_shots(str(DEMO / "bbb_b.mp4"), folder, short_side_px=144, max_shots=NUM_SHOTS)


def test_every_kind_of_copy_is_grouped_and_neither_mirror_images_nor_neighboring_shots_are(
    rows: list[dict[str, Any]],
) -> None:
    groups = find_groups(pa.Table.from_pylist(rows), None, DedupConfig())
    for one, other in itertools.combinations(rows, 2):
        together = one["clip_id"] in groups and groups[one["clip_id"]] == groups.get(other["clip_id"])
        is_pair = one["shot"] == other["shot"] and one["is_copy"] and other["is_copy"]
        assert together == is_pair, (one["how"], one["shot"], other["how"], other["shot"])
    assert len(groups) == NUM_SHOTS * sum(copy.is_copy for copy in COPIES)


def test_the_least_compressed_whole_picture_is_the_best_copy(rows: list[dict[str, Any]]) -> None:
    for shot in {row["shot"] for row in rows}:
        copies = {row["clip_id"]: row["how"] for row in rows if row["shot"] == shot and row["is_copy"]}
        assert copies[best([row for row in rows if row["clip_id"] in copies])] == "original"
