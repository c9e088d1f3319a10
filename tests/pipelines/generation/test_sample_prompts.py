"""`reelpack sample` with files of prompts, several seeds and a sheet."""

import json
from pathlib import Path

import numpy as np
import pytest

from curate.media.decode import decode_clip
from curate.media.still import encode_png
from tests.pipelines.test_train_commands import run
from tests.support.tiny_run import tiny_run
from train.sampling import sample as sampling

FEW = ["--size", "48x32", "--frames", "5", "--set", "sample.num_steps=1", "--set", "sample.device=cpu"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_run(tmp_path_factory.mktemp("prompted")))


def test_a_file_of_prompts_goes_on_where_it_was_interrupted(
    trained: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = tmp_path / "mine.csv", tmp_path / "mine"
    file.write_text("prompt,seed,frames\na disc,3,\na square,,1\n")
    whole = sampling.generate
    monkeypatch.setattr(sampling, "packs_to_generate", lambda counts, *_: [[i] for i in range(len(counts))])
    calls: list[int] = []

    def until_the_second(*args: object, **kwargs: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*args, **kwargs)

    monkeypatch.setattr(sampling, "generate", until_the_second)
    assert run("sample", trained, "--prompts", str(file), *FEW) == 130
    first = out / "0002-3.mp4"
    assert [path.name for path in sorted(out.iterdir())] == ["0002-3.json", "0002-3.mp4"]
    before = first.stat().st_mtime_ns
    assert run("sample", trained, "--prompts", str(file), "--grid", *FEW) == 0
    assert len(calls) == 3 and first.stat().st_mtime_ns == before, "what was there stays"
    assert sorted(path.name for path in out.glob("*.[mp][pn]*")) == ["0002-3.mp4", "0003-1.png", "grid.mp4"]
    assert json.loads((out / "0003-1.json").read_text())["prompt"] == "a square"
    assert run("sample", trained, "--prompts", str(file), *FEW) == 0 and len(calls) == 3
    file.write_text("prompt,seed,frames\na disc,3,\na triangle,,1\n")
    assert run("sample", trained, "--prompts", str(file), *FEW) == 0 and len(calls) == 4
    assert json.loads((out / "0003-1.json").read_text())["prompt"] == "a triangle"


def test_lines_that_the_run_cannot_make_are_named_before_anything_is_made(
    trained: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jsonl").write_text('"a disc"\n{"prompt": "a", "size": "50x32"}\n{"prompt": "b", "label": "drama"}')
    assert run("sample", trained, "--prompts", str(tmp_path / "a.jsonl"), *FEW) == 2
    said = capsys.readouterr().err
    assert "cannot make 2 lines" in said and "line 2: got 5 frames of 50x32" in said and "line 3: label" in said
    assert not (tmp_path / "a").exists()
    assert run("sample", trained, "--prompts", str(tmp_path / "none.txt"), *FEW) == 2
    assert "none.txt: cannot be read (No such file" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "b.txt").write_text("a disc\n")
    for option in (["--loop"], ["--extend", "back"], ["--mask", "m.png"]):
        assert run("sample", trained, "--prompts", str(tmp_path / "b.txt"), *option, *FEW) == 2
        assert f"has what to show in its lines; leave {option[0]} out" in " ".join(capsys.readouterr().err.split())


def test_a_long_video_of_a_file_is_drawn_in_windows_as_that_of_a_prompt(trained: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "a.txt").write_text("a disc\n")
    long = [*FEW, "--frames", "9", "--set", "sample.window_frames=5"]
    assert run("sample", trained, "--prompt", "a disc", "--out", str(tmp_path / "x.mp4"), *long) == 0
    assert run("sample", trained, "--prompts", str(tmp_path / "a.txt"), *long) == 0
    of_prompt, of_file = (decode_clip((tmp_path / name).read_bytes()).rgb for name in ("x.mp4", "a/0001-0.mp4"))
    assert len(of_file) == 9 and np.array_equal(of_prompt, of_file)
    (tmp_path / "b.jsonl").write_text('{"prompt": "a disc", "start": "x.mp4", "loop": true}')
    assert run("sample", trained, "--prompts", str(tmp_path / "b.jsonl"), *long) == 2
    assert "line 1: got 9 frames, drawn in windows of 5, and more than a start" in " ".join(
        capsys.readouterr().err.split()
    )


def test_prompts_and_seeds_are_rows_and_columns_of_a_sheet(trained: str, tmp_path: Path) -> None:
    asked = ["--prompt", "a disc", "--prompt", "a square", "--set", "sample.seeds=[4,2]", "--grid"]
    assert run("sample", trained, *asked, "--out", str(tmp_path / "x.mp4"), *FEW) == 0
    facts = [json.loads((tmp_path / f"x-{number}.json").read_text()) for number in range(4)]
    pairs = [(one["prompt"], one["seed"]) for one in facts]
    assert pairs == [("a disc", 4), ("a disc", 2), ("a square", 4), ("a square", 2)]
    sheet = decode_clip((tmp_path / "x-grid.mp4").read_bytes()).rgb
    assert b"/trainedAlgorithmicMedia" in (tmp_path / "x-grid.mp4").read_bytes()
    assert len(sheet) == 5 and sheet.shape[2] > 2 * 48 and sheet.shape[1] > 2 * 32


def test_a_sheet_of_videos_from_pictures_says_that_they_are_composite(trained: str, tmp_path: Path) -> None:
    (tmp_path / "start.png").write_bytes(encode_png(np.full((32, 48, 3), 90, np.uint8)))
    (tmp_path / "a.csv").write_text("prompt,start\na disc,start.png\n")
    assert run("sample", trained, "--prompts", str(tmp_path / "a.csv"), "--grid", *FEW) == 0
    start = ["--start", str(tmp_path / "start.png"), "--out", str(tmp_path / "x.mp4"), "--grid"]
    assert run("sample", trained, *start, *FEW) == 0
    for sheet in (tmp_path / "a/grid.mp4", tmp_path / "x-grid.mp4"):
        assert b"/compositeWithTrainedAlgorithmicMedia" in sheet.read_bytes()
