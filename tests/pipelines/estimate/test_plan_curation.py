"""A plan against the run that it predicts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curate.dataset.dataset import Dataset
from pipelines.commands.plan import Nodes, show
from pipelines.config import load_config
from pipelines.drivers.curate import curate
from pipelines.estimate.pilot import take_excerpt
from pipelines.estimate.plan_curation import CurationPlan, Estimate, plan
from tests.support.curated import SETTINGS
from tests.support.videos import FPS, moving, write_video

LENGTHS_S = (2.0, 3.0, 1.5, 2.5)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films of one to four shots, a longer one, two pictures, and a file that is none."""
    folder = tmp_path_factory.mktemp("films")
    for film in range(4):
        write_video(
            folder / f"{film}.mp4", np.concatenate([moving(10 * film + i, LENGTHS_S[i]) for i in range(film + 1)])
        )
    write_video(folder / "long.mp4", np.concatenate([moving(100 + i, LENGTHS_S[i % 4]) for i in range(12)]))
    for seed in (200, 201):
        Image.fromarray(moving(seed, 0.1)[0]).save(folder / f"{seed}.png")
    (folder / "text.mp4").write_text("no video")
    return folder


def contains(estimate: Estimate, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high


def test_a_plan_is_near_the_run_that_it_predicts(films: Path, tmp_path: Path) -> None:
    config = load_config(overrides=SETTINGS)
    predicted = plan([str(films)], config, num_sampled=16, excerpt_s=5)
    ran = curate([str(films)], str(tmp_path / "out"), config)
    size = sum(row["size"] for row in Dataset(str(tmp_path / "out")).shards.rows())
    assert (predicted.num_files, predicted.num_unreadable, predicted.num_workers) == (8, 1, 1)
    assert predicted.video_s.value == pytest.approx(2 + 5 + 6.5 + 9 + 27)
    for estimate, truth in (
        (predicted.clips, ran.funnel["clips"]),
        (predicted.kept, ran.funnel["keep"]),
    ):
        assert truth / 2 < estimate.value < truth * 2
        assert contains(estimate, truth)
    # Excerpts divide clips, and each part of one has a header and a key frame of its own.
    assert size * 0.95 < predicted.shard_bytes.value < size * 1.15
    # Other work on the machine slows the one or the other.
    assert ran.seconds / 4 < predicted.total_s.value < ran.seconds * 4
    assert sum(one.value for one in predicted.step_s.values()) == pytest.approx(predicted.total_s.value)


def test_files_that_are_run_whole_give_their_clips_exactly(films: Path) -> None:
    predicted = plan(
        [str(films / "1.mp4"), str(films / "3.mp4"), str(films / "200.png")], load_config(overrides=SETTINGS)
    )
    assert predicted.num_excerpts == 3
    assert predicted.clips.value == pytest.approx(2 + 4 + 1)


def test_one_long_film_is_sampled_in_several_places(films: Path) -> None:
    predicted = plan([str(films / "long.mp4")], load_config(overrides=SETTINGS), num_sampled=3, excerpt_s=5)
    assert predicted.num_excerpts == 3
    assert 6 < predicted.clips.value < 24
    assert predicted.clips.low < predicted.clips.high


def test_a_plan_is_the_same_again_but_for_the_times(films: Path) -> None:
    config = load_config(overrides=SETTINGS)
    first, second = (plan([str(films)], config, num_sampled=4, excerpt_s=3) for _ in range(2))

    def timeless(one: CurationPlan) -> CurationPlan:
        return replace(one, step_s={}, total_s=one.video_s)

    assert timeless(first) == timeless(second)


def test_workers_share_the_work(films: Path) -> None:
    overrides = [*SETTINGS, "execute.executor=ray", "execute.num_cpus=4"]
    predicted = plan([str(films / "0.mp4")], load_config(overrides=overrides))
    assert predicted.num_workers == 4
    assert predicted.total_s.value == pytest.approx(sum(one.value for one in predicted.step_s.values()) / 4)


def test_an_excerpt_holds_its_window(films: Path, tmp_path: Path) -> None:
    from curate.media.decode import decode_clip

    excerpt = take_excerpt(str(films / "long.mp4"), 7.0, 3.0, str(tmp_path / "x.mkv"))
    assert excerpt.window is not None
    before_s, end_s = excerpt.window
    assert end_s - before_s == 3.0
    whole, part = (decode_clip(Path(path).read_bytes()).rgb for path in (films / "long.mp4", excerpt.path))
    first = round((7.0 - before_s) * FPS)
    assert len(part) >= end_s * FPS
    np.testing.assert_array_equal(part, whole[first : first + len(part)])


def test_inputs_of_which_none_can_be_read_are_an_error(films: Path) -> None:
    with pytest.raises(ValueError, match="none of 1 files"):
        plan([str(films / "text.mp4")], load_config(overrides=SETTINGS))


def test_what_a_plan_says_names_the_interval_and_what_it_does_not_know(
    films: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show(plan([str(films / "0.mp4")], load_config(overrides=SETTINGS)), Nodes(count=2, price_per_hour=3.6))
    said = capsys.readouterr().out
    assert "90 % interval" in said
    assert "one excerpt has no error bar" in said
    assert "not in it: duplicates" in said
