"""What `reelpack evaluate` generates, measures, writes and shows."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from curate.media.decode import decode_clip
from curate.report.run import build_run_report
from tests.pipelines.test_train_commands import run
from tests.support.drifting import Drifting, make_drifting
from train.evaluate.quality.clips import View, read_clips
from train.evaluate.quality.observe import Observer

TRAIN = [
    "steps=2", "device=cpu", "data.plan.token_budget=512", "evaluate.captions.every=0", "evaluate.held_out.every=0",
    "model={width: 32, num_heads: 2, depth: 1}",
]  # fmt: skip
QUICK = ["sample.num_steps=1", "sample.guidance=1", "evaluate.max_training=3", "evaluate.num_bootstrap=20"]
QUICK += ["evaluate.features=[{kind: frames, num_frames: 1}]", "evaluate.text=[]", "evaluate.max_held_out=8"]


def options(*settings: str) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


@dataclass(frozen=True)
class Made:
    dataset: str
    run: str
    clips: dict[str, Drifting]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A run that is hardly trained."""
    folder = tmp_path_factory.mktemp("evaluated")
    clips = make_drifting(folder / "dataset", num_train=4, num_val=9)
    given = options(*(f"train.{setting}" for setting in TRAIN))
    assert run("train", str(folder / "dataset"), "--out", str(folder / "run"), *given) == 0
    return Made(str(folder / "dataset"), str(folder / "run"), {clip.clip_id: clip for clip in clips})


def evaluated(made: Made, *more: str) -> tuple[int, dict]:
    code = run("evaluate", made.run, "--samples", "9", *options(*QUICK), *more)
    found = sorted(Path(made.run).glob("evaluation/*/evaluate.json"), key=lambda path: path.stat().st_mtime)
    return code, json.loads(found[-1].read_text()) if found else {}


def test_samples_are_measured_beside_clips_and_shown(made: Made, tmp_path: Path, capsys) -> None:
    code, facts = evaluated(made, "--vbench", str(tmp_path / "vbench"))
    assert code == 0
    assert (facts["view"]["width"], facts["view"]["height"], facts["view"]["num_frames"]) == (48, 32, 9)
    figures = facts["figures"]
    assert (figures["num_videos"], figures["num_held_out"], figures["num_training"]) == (9, 8, 3)
    (distance,) = figures["distances"].values()
    assert 0 < distance["frechet"]["low"] < distance["frechet"]["value"] < distance["frechet"]["high"]
    captions = [clip.caption for clip in read_clips([made.dataset], "val")]
    assert {video["prompt"] for video in figures["videos"]} == set(captions)
    printed = capsys.readouterr().out
    assert "fd_efficientnet_lite0_1" in printed and "read the kernel distance" in printed
    page = Path(build_run_report(made.run)).read_text()
    assert "Samples beside clips" in page and "nearest training clip, at" in page and captions[0] in page
    prompts = json.loads((tmp_path / "vbench/prompts.json").read_text())
    assert sorted(prompts) == sorted(path.name for path in (tmp_path / "vbench/videos").iterdir())
    assert {name.rpartition("-")[0] for name in prompts} == set(prompts.values()) == set(captions)


def test_what_is_on_disk_is_not_generated_again_unless_settings_or_prompts_change(made: Made, tmp_path: Path) -> None:
    assert evaluated(made)[0] == 0
    files = sorted(Path(made.run).glob("evaluation/*/*.mp4"))
    before = {path: path.stat().st_mtime_ns for path in files}
    files[3].with_suffix(".json").unlink()  # as of a generation that was stopped
    bytes_before = files[3].read_bytes()
    files[5].with_suffix(".json").write_text("")
    files[7].unlink()
    assert evaluated(made)[0] == 0
    changed = [path for path in files if path.stat().st_mtime_ns != before[path]]
    assert changed == files[3:8:2] and files[3].read_bytes() == bytes_before, "a video is its seed's, in any pack"
    (tmp_path / "prompts.txt").write_text("a red square\n\na green circle\n")
    code, facts = evaluated(made, "--prompts", str(tmp_path / "prompts.txt"), "--set", "sample.num_steps=2")
    assert code == 0 and len(list(Path(made.run).glob("evaluation/*/evaluate.json"))) == 2
    assert {video["prompt"] for video in facts["figures"]["videos"]} == {"a red square", "a green circle"}


def test_a_checkpoint_that_is_not_there_is_refused_before_the_dataset_is_read(
    made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipelines.drivers.evaluate.read_clips", lambda *_: pytest.fail("the dataset was read"))
    assert evaluated(made, "--step", "7")[0] == 2
    assert "got step 7, and there are checkpoints after 2" in " ".join(capsys.readouterr().err.split())


def test_lines_of_a_file_have_settings_and_each_turn_has_seeds_of_its_own(made: Made, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('"a red square"\n{"prompt": "a circle", "seed": 40, "negative": "blue"}\n')
    settings = ["--prompts", str(tmp_path / "a.jsonl"), *options("sample.guidance=2", "sample.seed=3")]
    assert evaluated(made, *settings)[0] == 0
    folder = max(Path(made.run).glob("evaluation/step-*"), key=lambda path: path.stat().st_mtime)
    facts = [json.loads(path.read_text()) for path in sorted(folder.glob("0000[0-3].json"))]
    assert [(one["prompt"], one["seed"], one["negative"]) for one in facts] == [
        ("a red square", 3, ""),
        ("a circle", 40, "blue"),
        ("a red square", 5, ""),
        ("a circle", 42, "blue"),
    ]


def test_clips_are_looked_at_once_by_the_same_networks(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(Path(made.run) / "evaluation", ignore_errors=True)
    seen: list[int] = []
    see = Observer.see
    monkeypatch.setattr(Observer, "see", lambda *given, **more: (seen.append(1), see(*given, **more))[1])
    first = evaluated(made)[1]["figures"]
    assert len(seen) == 9 + 8 + 3
    for change, looked in (((), 9), (("evaluate.max_training=4",), 10), (("evaluate.num_text_frames=2",), 20)):
        seen.clear()
        assert evaluated(made, *options(*change))[0] == 0
        assert len(seen) == looked, "generated videos, and clips that are new to these networks"
    kept = sorted(Path(made.run).glob("evaluation/clips/*.safetensors"))
    assert len(kept) == 4
    for file in kept:
        file.write_bytes(b"damaged")
    seen.clear()
    again = evaluated(made)[1]["figures"]
    assert len(seen) == 20 and again == first
    seen.clear()
    assert evaluated(made)[1]["figures"] == first and len(seen) == 9


def test_a_long_video_is_drawn_in_windows(made: Made) -> None:
    """As `sample` does: two of 5 frames."""
    tasks = "[{kind: unconditional}, {kind: first_frames}]"
    run_of = str(Path(made.run).with_name("begun"))
    given = options(*(f"train.{setting}" for setting in [*TRAIN, f"data.tasks={tasks}"]))
    assert run("train", made.dataset, "--out", run_of, *given) == 0
    long = [*QUICK, "sample.window_frames=5"]
    assert run("evaluate", run_of, "--samples", "8", *options(*long)) == 0
    [folder] = Path(run_of).glob("evaluation/step-*")
    facts = json.loads((folder / "00000.json").read_text())
    alone = [
        run_of,
        "--prompt",
        facts["prompt"],
        "--out",
        str(folder / "alone.mp4"),
        "--size",
        "48x32",
        "--frames",
        "9",
    ]
    assert run("sample", *alone, *options(*(s for s in long if s.startswith("sample.")))) == 0
    one, other = (decode_clip((folder / name).read_bytes()).rgb for name in ("00000.mp4", "alone.mp4"))
    assert len(one) == 9 and np.array_equal(one, other)


def test_a_clip_is_read_at_the_size_and_length_of_samples(made: Made) -> None:
    clip = read_clips([made.dataset], "val")[0]
    shown = clip.frames(View(width=32, height=32, num_frames=5, fps=12.0)).astype(int)
    whole = made.clips[clip.clip_id].frames()
    assert shown.shape == (5, 32, 32, 3)
    errors = {(t, x): abs(shown - whole[t : t + 5, :, x : x + 32]).mean() for t in (1, 2, 3) for x in (7, 8, 9)}
    assert min(errors, key=lambda place: errors[place]) == (2, 8), "the middle of the clip and of the picture"
    assert errors[2, 8] < 6
    assert not clip.fits(View(width=32, height=32, num_frames=17, fps=12.0))
    assert not clip.fits(View(width=32, height=32, num_frames=1, fps=0.0))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--samples", "3"], "got 3 generated videos, expected at least 8; ask for more samples"),
        (["--samples", "3", "--vbench", "FULL"], "is not empty, and VBench takes every file in it"),
        (["--size", "wide"], "--size wide: expected WIDTHxHEIGHT"),
        (["--size", "50x50"], "the nearest that this run's autoencoder and patch can make are"),
        (["--frames", "17"], "got 0 held-out clips to compare with"),
        (["--against", "nowhere"], "expected a dataset that `reelpack curate` wrote"),
        (["--prompts", "nowhere.txt"], "--prompts nowhere.txt: cannot be read"),
        (["--prompts", "EMPTY"], "has no prompt"),
        (["--prompts", "LINES"], "line 2: asks for 5 frames of 48x32"),
        (["--vbench", "EMPTY"], "is a file, and a folder is expected there"),
        (["--set", "evaluate.features=[{kind: i3d, path: nowhere.pt}]"], "nowhere.pt is no file"),
        (["--step", "7"], "got step 7, and there are checkpoints after 2"),
    ],
)
def test_what_cannot_be_evaluated_is_one_message(
    made: Made, tmp_path: Path, capsys, given: list[str], message: str
) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/before.mp4").touch()
    (tmp_path / "lines.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b", "frames": 5}\n')
    places = {"EMPTY": tmp_path / "empty.txt", "FULL": tmp_path, "LINES": tmp_path / "lines.jsonl"}
    given = [str(places.get(one, one)) for one in given]
    assert evaluated(made, *given)[0] == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_size_that_the_run_has_not_seen_is_said(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    assert evaluated(made, "--size", "32x32", "--frames", "5")[0] == 0
    assert "no clip of the dataset is 32x32 of 5 frames as the run encodes them (most: 13 clips at 48x32 of 9)" in (
        caplog.text
    )
    shapes = {decode_clip(path.read_bytes()).rgb.shape for path in Path(made.run).glob("evaluation/*/00000.mp4")}
    assert (5, 32, 32, 3) in shapes


def test_a_damaged_evaluation_is_left_out_of_the_report_and_told(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    for name, text in (("a", "[]"), ("b", "{"), ("c", "5"), ("d", '{"step": 1}')):
        (folder := Path(made.run) / "evaluation" / name).mkdir()
        (folder / "evaluate.json").write_text(text)
    build_run_report(made.run)
    assert len([message for message in caplog.messages if "evaluate.json is not shown" in message]) == 4
    for name in "abcd":
        shutil.rmtree(Path(made.run) / "evaluation" / name)


def test_the_figures_for_scripts_are_all_that_is_printed(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    code, facts = evaluated(made, "--json")
    assert code == 0 and json.loads(capsys.readouterr().out) == facts["figures"]
