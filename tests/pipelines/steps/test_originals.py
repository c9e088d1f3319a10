"""Clips are read from files that still have the bytes that were scanned, or not at all."""

import os
from pathlib import Path

import numpy as np
import pytest

from curate.dataset.dataset import Dataset
from curate.media.decode import decode_clip
from curate.media.encode import encode_mp4
from curate.shards.tar import TarReader, read_member
from pipelines.config import Config, load_config
from pipelines.drivers.curate import CurateSummary, curate
from pipelines.inputs.listing import list_sources
from pipelines.inputs.sources import version_now
from tests.support.scorers import only
from tests.support.videos import FPS, moving, write_video

NONE_KEPT = "select.rules.duration_s.min=5"


def config(*overrides: str) -> Config:
    return load_config(
        overrides=["scan.detector.kind=adaptive", "score.scorers=null", "execute.executor=local", *overrides]
    )


def outcomes(summary: CurateSummary) -> list[tuple[str, str]]:
    return [(failure.step, str(failure.kind)) for failure in summary.failures]


def pictures(out: Path) -> list[np.ndarray]:
    """The first frame of each clip of the index."""
    reader = TarReader(str(out / "shards"))
    rows = Dataset(str(out)).read_index().to_pylist()
    return [decode_clip(read_member(reader, row)).rgb[0] for row in rows]


def test_other_bytes_under_the_name_of_an_earlier_input_are_not_cut_as_its_clips(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_video(tmp_path / "A/x.mp4", moving(3, 1.2))
    write_video(tmp_path / "B/y.mp4", moving(4, 1.2))
    curate([str(tmp_path / "A")], str(out), config(NONE_KEPT))
    write_video(tmp_path / "A/x.mp4", moving(77, 1.2))
    summary = curate([str(tmp_path / "B")], str(out), config())
    assert outcomes(summary) == [("cut", "missing")]
    assert (summary.funnel["keep"], summary.funnel["failed"]) == (1, 1)
    (picture,) = pictures(out)
    assert np.abs(picture.astype(int) - moving(4, 1.2)[0]).mean() < 20, "the clip of B, and no other"


def test_other_bytes_under_the_name_of_an_earlier_input_are_not_scored_as_its_clips(tmp_path: Path) -> None:
    out, scored = tmp_path / "out", f"score.scorers={only(static_overlay={})}"
    write_video(tmp_path / "A/x.mp4", moving(3, 1.2))
    write_video(tmp_path / "B/y.mp4", moving(4, 1.2))
    curate([str(tmp_path / "A")], str(out), config(NONE_KEPT))
    write_video(tmp_path / "A/x.mp4", moving(77, 1.2))
    summary = curate([str(tmp_path / "B")], str(out), config(scored, NONE_KEPT))
    assert outcomes(summary) == [("score", "missing")]
    values = {row["video_uri"]: row["static_overlay"] for row in Dataset(str(out)).read_clips().to_pylist()}
    assert values[str(tmp_path / "A/x.mp4")] is None
    assert values[str(tmp_path / "B/y.mp4")] is not None


def test_clips_of_an_earlier_input_that_is_as_it_was_are_cut(tmp_path: Path) -> None:
    write_video(tmp_path / "A/x.mp4", moving(3, 1.2))
    write_video(tmp_path / "B/y.mp4", moving(4, 1.2))
    curate([str(tmp_path / "A")], str(tmp_path / "out"), config(NONE_KEPT))
    assert curate([str(tmp_path / "B")], str(tmp_path / "out"), config()).num_indexed == 2


def test_clips_in_the_shards_stay_when_their_file_is_gone(tmp_path: Path) -> None:
    write_video(tmp_path / "A/x.mp4", moving(3, 1.2))
    write_video(tmp_path / "B/y.mp4", moving(4, 1.2))
    curate([str(tmp_path / "A")], str(tmp_path / "out"), config())
    (tmp_path / "A/x.mp4").unlink()
    summary = curate([str(tmp_path / "B")], str(tmp_path / "out"), config())
    assert (summary.num_indexed, summary.failures) == (2, ())


@pytest.mark.parametrize(("before", "after"), [("a.mp4", "b.mp4"), ("b.mp4", "a.mp4")])
def test_a_file_that_was_renamed_is_read_under_its_new_name(tmp_path: Path, before: str, after: str) -> None:
    write_video(tmp_path / "films" / before, moving(1, 1.2))
    curate([str(tmp_path / "films")], str(tmp_path / "out"), config(NONE_KEPT))
    (tmp_path / "films" / before).rename(tmp_path / "films" / after)
    summary = curate([str(tmp_path / "films")], str(tmp_path / "out"), config())
    assert (summary.num_indexed, summary.failures) == (1, ())


def test_a_file_that_is_back_is_cut_after_all(tmp_path: Path) -> None:
    film, away = tmp_path / "A/x.mp4", tmp_path / "away.mp4"
    write_video(film, moving(1, 1.2))
    write_video(tmp_path / "B/y.mp4", moving(4, 1.2))
    curate([str(tmp_path / "A")], str(tmp_path / "out"), config(NONE_KEPT))
    film.rename(away)
    assert curate([str(tmp_path / "B")], str(tmp_path / "out"), config()).num_indexed == 1
    away.rename(film)
    assert curate([str(tmp_path / "B")], str(tmp_path / "out"), config()).num_indexed == 2


def test_the_version_of_one_file_is_that_of_the_listing(tmp_path: Path) -> None:
    import fsspec

    write_video(tmp_path / "a.mp4", moving(1, 1))
    fsspec.filesystem("memory").pipe("/originals/a.mp4", encode_mp4(moving(1, 1), FPS))
    for folder in ("memory://originals", str(tmp_path)):
        ((source,), _) = list_sources([folder])
        assert version_now(source.uri) == source.version
    os.utime(source.uri, (1, 1))
    assert version_now(source.uri) not in (source.version, None)
    assert version_now(str(tmp_path / "nowhere.mp4")) is None
