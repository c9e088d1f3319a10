"""`reelpack shots`: table, lists for other tools, picture."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from curate.scan import ScanConfig
from curate.shot_list import ShotList, find_shots
from curate.shots.base import Transition
from curate.shots.formats import FORMATS, rows
from curate.shots.strip import AROUND, CUT, INSIDE, LEFT_OUT, draw_strip
from pipelines.cli import app
from tests.support.curated import curated
from tests.support.members.black import BlackConfig
from tests.support.videos import FPS, moving, write_video

ADAPTIVE = ["--detector", "adaptive"]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A cut before frame 12, black frames 24 to 29."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    frames = np.concatenate([moving(seed, 1) for seed in range(4)])
    frames[24:30] = 0
    write_video(path, frames)
    return str(path)


def found(film: str, monkeypatch: pytest.MonkeyPatch) -> ShotList:
    """By a detector that leaves the black frames out, and a hard cut as well."""
    monkeypatch.setattr(
        "tests.support.members.black.BlackDetector.transitions",
        lambda *_: [Transition(12, 12), Transition(24, 30, "fade")],
    )
    config = ScanConfig.model_construct(**{**ScanConfig().__dict__, "detector": BlackConfig()})
    return find_shots(film, film, config)


def test_the_table_has_a_line_per_clip_and_says_what_is_between_them(film: str) -> None:
    result = CliRunner().invoke(app, ["shots", film, *ADAPTIVE])
    assert result.exit_code == 0
    head, first, *_, last = result.output.splitlines()
    assert head.split() == ["shot", "time", "frames", "seconds", "ends", "by", "left", "out"]
    assert first.split() == ["0", "00:00:00.000", "–", "00:00:01.000", "0", "–", "12", "1.000", "cut"]
    assert last.endswith("48 of 48 frames are in a clip")


@pytest.mark.parametrize("name", FORMATS)
def test_a_list_goes_to_a_file_or_alone_to_standard_output(name: str, film: str, tmp_path: Path) -> None:
    target = tmp_path / f"shots.{name}"
    assert CliRunner().invoke(app, ["shots", film, *ADAPTIVE, f"--{name}", str(target)]).exit_code == 0
    piped = CliRunner().invoke(app, ["shots", film, *ADAPTIVE, f"--{name}", "-"])
    assert piped.output == target.read_text()


def test_lists_hold_exact_frames_and_times(film: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shots = found(film, monkeypatch)
    spans = [(0, 12), (12, 24), (30, 48)]
    assert [(row["first_frame"], row["end_frame"]) for row in rows(shots)] == spans
    table = list(csv.DictReader(FORMATS["csv"](shots).splitlines()))
    assert [(float(row["start_s"]), float(row["end_s"])) for row in table] == [
        (first / FPS, end / FPS) for first, end in spans
    ]
    assert (table[1]["transition_after"], table[1]["left_out_after"]) == ("fade", "6")
    told = json.loads(FORMATS["json"](shots))
    assert told["transitions"][1] == {"first": 24, "end": 30, "kind": "fade"}
    track = json.loads(FORMATS["otio"](shots))["tracks"]["children"][0]["children"]
    assert [one["OTIO_SCHEMA"] for one in track] == ["Clip.2", "Clip.2", "Gap.1", "Clip.2"]
    ranges = [one["source_range"] for one in track]
    assert [(one["start_time"]["value"], one["duration"]["value"]) for one in ranges] == [
        (0, 12), (12, 12), (24, 6), (30, 18)
    ]  # fmt: skip
    events = [line.split() for line in FORMATS["edl"](shots).splitlines() if line[:1].isdigit()]
    assert [event[4:6] for event in events] == [
        ["00:00:00:00", "00:00:01:00"], ["00:00:01:00", "00:00:02:00"], ["00:00:02:06", "00:00:04:00"]
    ]  # fmt: skip


def test_the_picture_shows_every_part_of_the_film_and_marks_transitions(
    film: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.asarray(draw_strip(found(film, monkeypatch), film))
    assert (pixels == CUT).all(axis=2).any() and (pixels == LEFT_OUT).all(axis=2).any()
    # Three lines of 16 frames and two close-ups; the fade has all of its six frames between three on either side.
    width = pixels.shape[1] // 16
    close_up = pixels[-40]
    drawn = [close_up[place * width : (place + 1) * width].std() > 5 for place in range(16)]
    black = [place for place in range(2 * AROUND + INSIDE) if not drawn[place]]
    assert black == list(range(AROUND, AROUND + INSIDE))


def test_what_cannot_be_done_is_told_before_the_video_is_decoded(film: str, tmp_path: Path) -> None:
    for options, said in (
        (["--strip", "a.gif"], "expected a name that ends in .png"),
        (["--csv", str(tmp_path / "none" / "a.csv")], "there is no folder"),
        (["--csv", "-", "--edl", "-"], "two lists to standard output"),
        (["--detector", "nothing"], "nothing"),
    ):
        result = CliRunner().invoke(app, ["shots", "missing.mp4", *options])
        assert result.exit_code != 0 and said in f"{result.output} {result.exception}", options


def test_a_file_that_is_no_video_is_one_message(tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("no video")
    result = CliRunner().invoke(app, ["shots", str(text), *ADAPTIVE])
    assert isinstance(result.exception, ValueError) and "not_media" in str(result.exception)


def test_the_picture_is_written_in_the_format_of_its_name(film: str, tmp_path: Path) -> None:
    target = tmp_path / "strip.jpg"
    assert CliRunner().invoke(app, ["shots", film, *ADAPTIVE, "--strip", str(target)]).exit_code == 0
    assert Image.open(target).format == "JPEG"


def test_the_cuts_of_a_chosen_film_are_shown_and_an_unknown_film_is_named(tmp_path: Path) -> None:
    made = curated(tmp_path)
    film = str(made.films / "1.mp4")
    result = CliRunner().invoke(app, ["report", made.url, "--film", "1.mp4"])
    assert result.exit_code == 0, result.exception
    page = Path(result.output.strip()).read_text()
    assert page.count('<img class="film"') >= 2 and f"{film}: 1 clips" in page
    unknown = CliRunner().invoke(app, ["report", made.url, "--film", "9.mp4"])
    assert isinstance(unknown.exception, ValueError) and "--film 9.mp4: no input" in str(unknown.exception)
