import json

import pytest
from PIL import Image

from caption.llava.corpus import load_shots, load_stamps
from curate.encoders.training_video import EXCERPTS


def _write(path, *ranges):
    rows = [
        {
            "start_frame": a,
            "end_frame": b,
            "short": "A rabbit.",
            "short_variants": ["A bunny."],
            "dense": "A big rabbit.",
        }
        for a, b in ranges
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize("frames", [(4400, 4464), (5000, 5010), (6487, 6500), (11519, 11521)])
def test_a_shot_that_reaches_into_what_is_held_out_is_refused(tmp_path, frames):
    with pytest.raises(ValueError, match="held out"):
        load_shots(_write(tmp_path / "captions.jsonl", (0, 10), frames))


def test_committed_captions_touch_no_excerpt():
    shots = load_shots()
    assert len(shots) >= 80
    for shot in shots:
        assert all(shot.end_frame <= start or shot.start_frame >= end for start, end in EXCERPTS)


def test_shots_that_name_a_side_are_known(tmp_path):
    shot = load_shots(_write(tmp_path / "captions.jsonl", (0, 10)))[0]
    assert not shot.has_sides
    text = (tmp_path / "captions.jsonl").read_text().replace("A bunny.", "A bunny on the Left.")
    (tmp_path / "captions.jsonl").write_text(text)
    assert load_shots(tmp_path / "captions.jsonl")[0].has_sides


def test_stamps_are_read_with_their_first_sentence_and_letters_left_out(tmp_path):
    for name, text in {
        "animals/fish": "A blue fish. It swims.\nde=Ein Fisch",
        "symbols/a": "The letter A.",
        "food/long": "word " * 30,
        "food/pear": "A pear",
    }.items():
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGBA", (4, 4)).save(path)
        path.with_suffix(".txt").write_text(text)
    assert [stamp.caption for stamp in load_stamps(tmp_path)] == ["A blue fish.", "A pear."]
    with pytest.raises(ValueError, match="tuxpaint-stamps-default"):
        load_stamps(tmp_path / "symbols")
