from itertools import permutations

from curate.dedup.best import best

COPY = {"width": 640, "height": 360, "letterbox_fraction": 0.0, "bitrate": 1e6, "duration_s": 4.0, "sharpness": 50.0}


def test_pixels_of_the_content_count_before_bits_and_length() -> None:
    rows = [
        {**COPY, "clip_id": "small", "width": 320, "height": 180, "bitrate": 9e6},
        {**COPY, "clip_id": "boxed", "height": 480, "letterbox_fraction": 0.5},
        {**COPY, "clip_id": "plain"},
    ]
    assert {best(order) for order in permutations(rows)} == {"plain"}


def test_ties_are_broken_in_turn_by_bitrate_length_and_sharpness() -> None:
    rows = [{**COPY, "clip_id": "a"}, {**COPY, "clip_id": "b", "sharpness": 60.0}]
    assert best(rows) == "b"
    rows.append({**COPY, "clip_id": "c", "duration_s": 4.5})
    assert best(rows) == "c"
    rows.append({**COPY, "clip_id": "d", "bitrate": 2e6})
    assert best(rows) == "d"


def test_unknown_values_count_as_the_least() -> None:
    assert best([{**COPY, "clip_id": "a", "bitrate": None}, {**COPY, "clip_id": "b"}]) == "b"
