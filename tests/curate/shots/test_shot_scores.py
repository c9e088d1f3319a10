"""What `benchmarks.shots` counts, and the label formats that it reads."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

from curate.shots.base import Transition
from tests.support.shot_datasets import between_rows, read_dataset
from tests.support.shot_scores import Tally, false_boundaries, matches, shot_of, tally

LABELED = sorted((Path(__file__).parents[3] / "benchmarks" / "labels").glob("*.txt"))
LABELS = [Transition(10, 10), Transition(20, 30, "gradual"), Transition(40, 41, "blend"), Transition(60, 60)]
NUM_FRAMES = 80


def counted(predicted: list[Transition]) -> Tally:
    edges = [(0, 0), *((one.first, one.end) for one in predicted), (NUM_FRAMES, NUM_FRAMES)]
    return tally(predicted, LABELS, [(one[1], other[0]) for one, other in pairwise(edges)], NUM_FRAMES)


def test_the_labels_themselves_are_a_full_score() -> None:
    one = counted(LABELS)
    assert (one.f1(0), one.f1(1), one.gradual_found, one.blends_found, one.num_false) == (1, 1, 1, 1, 0)
    assert (one.num_clips, one.impure, one.two_shots, one.lost_frames) == (5, 0, 0, 0)


def test_a_boundary_off_by_one_counts_at_tolerance_one_and_makes_a_clip_impure() -> None:
    one = counted([Transition(11, 11), *LABELS[1:]])
    assert one.f1(0) == 0.5 and one.f1(1) == 1
    assert (one.impure, one.two_shots, one.num_false) == (1, 1, 0)


def test_a_second_boundary_in_a_range_is_false_and_one_beside_it_finds_it() -> None:
    one = counted([Transition(10, 10), Transition(19, 19), Transition(25, 25), Transition(60, 60)])
    assert (one.gradual_found, one.doubles, one.num_false) == (1, 1, 1) and one.f1(0) == 1
    assert (one.num_clips, one.impure, one.two_shots) == (5, 2, 1)


def test_a_hard_cut_is_matched_by_one_boundary_only() -> None:
    assert matches([9, 10, 11], [10], 1) == 1 and matches([9, 11], [10, 12], 1) == 2
    one = counted([Transition(9, 9), Transition(10, 10), Transition(50, 50)])
    assert (one.hard_found[1], one.hard_false[1], one.f1(1)) == (1, 2, pytest.approx(2 / (2 + 1 + 2)))


def test_frames_left_out_beside_a_transition_are_counted_as_lost() -> None:
    one = counted([Transition(10, 10), Transition(18, 32, "gradual"), Transition(40, 41), Transition(60, 60)])
    assert (one.impure, one.lost_frames, one.num_shot_frames) == (0, 4, NUM_FRAMES - 11)


def test_boundaries_away_from_all_labels_are_false() -> None:
    assert false_boundaries([Transition(5, 5), Transition(32, 32), Transition(25, 25), *LABELS], LABELS) == [5, 32]


def test_sums_add_every_count() -> None:
    both = Tally()
    both += counted(LABELS)
    both += counted([])
    assert both.num_frames == 2 * NUM_FRAMES and both.num_clips == 6 and both.f1(0) == pytest.approx(2 * 2 / 6)
    assert shot_of(LABELS, NUM_FRAMES)[[0, 10, 20, 30, 40, 79]].tolist() == [0, 1, -1, 2, -1, 4]


SHOTS = "0\t9\n10\t19\n30\t39\n41\t79\n"
ROWS = [Transition(10, 10), Transition(20, 30, "gradual"), Transition(40, 41, "gradual")]


@pytest.mark.parametrize(
    ("name", "video", "labels", "text"),
    [
        ("bbc", "videos/bbc_01.mp4", "fixed/01-scenes.txt", SHOTS),
        ("autoshot", "videos/7.mp4", "annotations/7.txt", SHOTS),
        ("rai", "3.mp4", "labels/3_gt.txt", SHOTS.replace("\t", " ")),
        ("rows", "a film.webm", "a film.txt", "# of a package\n" + SHOTS.replace("\t", ", ") + "\n# end\n"),
        (
            "clipshots",
            "videos/test/x.mp4",
            "annotations/test.json",
            json.dumps({"x.mp4": {"transitions": [[9, 10], [19, 30], [39, 41]], "frame_num": 80.0}}),
        ),
    ],
)
def test_each_label_format_is_read(tmp_path: Path, name: str, video: str, labels: str, text: str) -> None:
    for path, content in ((tmp_path / video, ""), (tmp_path / labels, text)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (film,) = read_dataset(name, tmp_path)
    assert film.path == tmp_path / video and film.labels == ROWS
    (tmp_path / video).unlink()
    with pytest.raises(ValueError, match="found no video with labels"):
        read_dataset(name, tmp_path)


@pytest.mark.parametrize("line", ["9", "a\tb", "30\t20", "5\t8"])
def test_a_wrong_row_is_told_with_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "x.mp4").touch()
    (tmp_path / "x.txt").write_text(f"0\t9\n10\t19\n{line}\n")
    with pytest.raises(ValueError, match=r"x\.txt:3: got"):
        read_dataset("rows", tmp_path)


def test_a_wrong_entry_of_clipshots_is_told_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "test.json").write_text('{"x.mp4": {"transitions": [[3]]}}')
    with pytest.raises(ValueError, match=r"x\.mp4: got .*expected a list of pairs"):
        read_dataset("clipshots", tmp_path)


def test_frames_before_the_first_row_are_a_fade(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").touch()
    (tmp_path / "x.txt").write_text("5 9\n10 19\n")
    (film,) = read_dataset("rows", tmp_path)
    assert film.labels == [Transition(0, 5, "fade"), Transition(10, 10)]


@pytest.mark.parametrize("path", LABELED, ids=lambda path: path.stem)
def test_labels_of_natural_clips_are_readable_and_name_their_source(path: Path) -> None:
    assert re.match(r"# .*[A-Za-z-]+ \d+\.\d+\.\d+, ", path.read_text())
    labels = between_rows(path, fades_in=True)
    assert all(one.end < other.first for one, other in pairwise(labels))


def test_shots_that_overlap_meet_where_the_later_begins(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").touch()
    (tmp_path / "x.txt").write_text("0 10\n10 19\n")
    (film,) = read_dataset("rows", tmp_path)
    assert film.labels == [Transition(10, 10)]
