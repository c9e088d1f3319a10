"""This process and Ray Data write the same dataset: every row of every table, and every byte of the shards."""

from pathlib import Path

import pytest

from pipelines.config import load_config
from pipelines.drivers.curate import curate
from tests.support.corpus import MANY_PARTS, broken_corpus, mixed_corpus, write_sidecar
from tests.support.snapshot import differences, snapshot

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.mark.usefixtures("private_ray")
def test_executors_write_the_same_tables_and_shards(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    mixed_corpus(videos / "mixed")
    broken_corpus(videos / "broken")
    write_sidecar(videos / "mixed", tmp_path / "sidecar.csv")
    settings = [f"{name}={value}" for name, value in MANY_PARTS.items()]
    settings += ["scan.sources=[{match: broken/*, detector: {kind: adaptive}}]"]  # a network for each takes a minute
    for executor in ("local", "ray"):
        config = load_config(overrides=[*settings, f"execute.executor={executor}"])
        curate([str(videos)], str(tmp_path / executor), config, sidecar=str(tmp_path / "sidecar.csv"))
    here = snapshot(tmp_path / "local")
    assert {"tables/videos", "tables/clips", "tables/failures", "tables/sidecar.parquet"} <= here.keys()
    assert sum(name.startswith("tables/scores/") for name in here) == len(config.score.scorers)
    assert differences(here, snapshot(tmp_path / "ray")) == []
