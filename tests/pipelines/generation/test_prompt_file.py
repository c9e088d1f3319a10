"""Files of prompts: what they ask for, and which lines are refused."""

from pathlib import Path

import pytest

from pipelines.generation.prompt_file import read_prompts
from train.sampling.config import SampleConfig
from train.sampling.given_files import GivenFiles

CONFIG = SampleConfig(seed=5)


def asked(file: Path, config: SampleConfig = CONFIG) -> list[tuple]:
    found = read_prompts(file, "64x48", 9, config)
    return [(number, one.prompt, f"{one.width}x{one.height}", one.num_frames, one.seed) for number, one in found]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "\ufeffa cat\n\n  ein Hündchen \n"),
        ("a.jsonl", '"a cat"\n\n{"prompt": "ein Hündchen"}'),
        ("a.csv", "prompt,size\na cat,\n,\nein Hündchen,64x48\n"),
    ],
)
def test_every_kind_of_file_gives_its_prompts_with_their_lines(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    if name.endswith("csv"):
        with pytest.raises(ValueError, match="line 3: has neither prompt nor label nor start"):
            asked(tmp_path / name)
        (tmp_path / name).write_text(text.replace(",\n,\n", ",\n"))
    second = 2 if name.endswith("csv") else 1
    found = asked(tmp_path / name)
    assert [one[1:] for one in found] == [("a cat", "64x48", 9, 5), ("ein Hündchen", "64x48", 9, 6)]
    assert found[0][0] == second and found[1][0] == 3
    seeds = asked(tmp_path / name, SampleConfig(seeds=(1, 2)))
    assert [(one[0] == 3, one[-1]) for one in seeds] == [(False, 1), (False, 2), (True, 1), (True, 2)]


def test_a_line_has_its_own_settings_and_files_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"")
    line = '{"prompt": "a", "seed": 9, "size": "32x16", "frames": 1, "negative": "b", "label": "c", '
    line += '"start": "x.png", "loop": true}'
    (tmp_path / "a.jsonl").write_text(line)
    [(_, one)] = read_prompts(tmp_path / "a.jsonl", "64x48", 9, SampleConfig(seeds=(1, 2)))
    assert (one.seed, one.width, one.height, one.num_frames) == (9, 32, 16, 1)
    assert (one.negative, one.label, one.given.start, one.given.loop) == ("b", "c", tmp_path / "x.png", True)


def test_all_lines_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    lines = [
        '{"prompt": "fine"}', '{"prompt": "a", "sede": 1}', "a cat", '{"prompt": "a", "size": "big"}', "[1]",
        '{"prompt": "a", "seed": -1}', '{"prompt": "a", "start": "none.png"}', '{"prompt": 1}', "{}",
    ]  # fmt: skip
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    with pytest.raises(ValueError) as said:
        asked(tmp_path / "a.jsonl")
    parts = str(said.value).splitlines()
    assert "8 lines cannot be used" in parts[0]
    assert [part.split(":")[0].strip() for part in parts[1:]] == [f"line {number}" for number in range(2, 10)]
    assert "sede: Extra inputs" in parts[1] and "known are prompt, seed" in parts[1]
    (tmp_path / "a.csv").write_text("prompt,seed\na,1,2\n")
    with pytest.raises(ValueError, match="line 2: has more cells"):
        asked(tmp_path / "a.csv")
    for text in ('prompt,seed\n"a,1\nb,2\n', f"prompt\n{'a' * 200_000}\n"):
        (tmp_path / "a.csv").write_text(text)
        with pytest.raises(ValueError, match=r"--prompts .*a\.csv: line \d is no CSV .*each quote has its end"):
            asked(tmp_path / "a.csv")


def test_what_unicode_calls_the_end_of_a_line_can_stand_in_a_prompt(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes('{"prompt": "a\u2028b"}\r\n{"prompt": "c"}\n'.encode())
    assert [one[:2] for one in asked(tmp_path / "a.jsonl")] == [(1, "a\u2028b"), (2, "c")]


@pytest.mark.parametrize(("name", "data"), [("a.doc", b"x"), ("a.txt", b"\xff\xfe"), ("a.txt", b"\n"), ("a.csv", b"")])
def test_a_file_of_no_prompts_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=r"expected a file|not in UTF-8|has no prompt"):
        asked(tmp_path / name)


def test_a_line_edits_or_extends_a_video(tmp_path: Path) -> None:
    for name in ("v.mp4", "m.png"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "a.jsonl").write_text('{"video": "v.mp4", "extend": "back"}\n{"video": "v.mp4", "mask": "m.png"}\n')
    video, mask = tmp_path / "v.mp4", tmp_path / "m.png"
    given = [one.given for _, one in read_prompts(tmp_path / "a.jsonl", "64x48", 9, SampleConfig())]
    assert given == [GivenFiles(video=video, extend="back"), GivenFiles(video=video, mask=mask)]
    (tmp_path / "a.jsonl").write_text('{"video": "v.mp4", "extend": "up"}\n{"mask": "m.png"}\n{"video": "none.mp4"}\n')
    with pytest.raises(ValueError, match=r"(?s)line 1: extend: .*line 2: --mask .*line 3: there is no file"):
        asked(tmp_path / "a.jsonl")
