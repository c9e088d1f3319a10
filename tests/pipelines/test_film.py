"""The list of the film that the embedded generator is trained on."""

from itertools import pairwise

import pytest

from caption.llava.corpus import load_shots
from curate.encoders.training_video import is_held_out
from pipelines.demo.film import LENGTH, rows, stretches


@pytest.mark.parametrize(("start", "end"), [(100, 170), (100, 134), (100, 120), (0, 240)])
def test_stretches_cover_a_shot_without_leaving_it(start: int, end: int) -> None:
    found = stretches(start, end)
    assert (found[0][0], found[-1][1]) == (start, end)
    assert all(one[1] >= other[0] for one, other in pairwise(found))
    assert {last - first for first, last in found} == {min(LENGTH, end - start)}


def test_rows_have_captions_and_nothing_that_is_held_out() -> None:
    listed = list(rows("film.mp4"))
    assert len(listed) > len(load_shots())
    assert all(row["caption"] and row["path"] == "film.mp4" for row in listed)
    assert not any(is_held_out(int(row["first_frame"]), int(row["end_frame"])) for row in listed)
