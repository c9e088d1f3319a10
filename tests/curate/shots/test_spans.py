"""Shots from a list: what each form means, frame by frame, and which line of it is wrong, and why."""

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from curate.media.parts import plan_parts
from curate.scan import ScanConfig, ScanKeys, ScanStage, SourceFile, assemble
from curate.schema import Failure, FailureKind, MediaError
from curate.shot_list import find_shots
from curate.shots.base import Timeline, Transition
from curate.shots.formats import as_csv, as_edl, as_otio
from curate.shots.spans import SpansConfig
from curate.shots.stride import StrideConfig

NTSC = Fraction(30_000, 1001)


def film(num_frames: int = 100, fps: Fraction = Fraction(25), start: int = 0, uri: str = "/x/film.mp4") -> Timeline:
    """At a constant rate, with a clock of 90 kHz that begins at `start` ticks."""
    ticks = 90_000 / fps
    pts = np.array([start + round(number * ticks) for number in range(num_frames + 1)])
    return Timeline(uri=uri, pts=pts[:-1], end_pts=int(pts[-1]), time_base=Fraction(1, 90_000), fps=fps)


@pytest.fixture
def listed(tmp_path: Path) -> Callable[..., list[tuple[int, int]]]:
    """`listed(text, timeline, name) -> frame ranges of the shots`."""

    def ranges(text: str, timeline: Timeline, name: str = "list.csv") -> list[tuple[int, int]]:
        (tmp_path / name).write_text(text)
        found = SpansConfig(path=str(tmp_path / name)).build().transitions(np.zeros((0, 0)), timeline)
        assert all(one.kind == ("cut" if one.first == one.end else "gap") for one in found)
        edges = [0, *(edge for one in found for edge in (one.first, one.end)), len(timeline.pts)]
        pairs = zip(edges[::2], edges[1::2], strict=True)
        return [(first, end) for first, end in pairs if first < end]

    return ranges


@pytest.mark.parametrize(
    ("ends", "ranges"),
    [
        ("start,end\n0,1\n1,2.0s\n3.2,4\n", [(0, 25), (25, 50), (80, 100)]),
        ("start_s,end_s\n0,1\n1.4,2\n", [(0, 25), (35, 50)]),
        ("first_frame,end_frame\n7,8\n40,100\n", [(7, 8), (40, 100)]),
        ("start;end\n00:00:00,5;00:00:01.24\n", [(12, 31)]),
        ("start\tend\n0:01\t00:00:02:05\n00:00:02:05\t0:00:03:24\n", [(25, 55), (55, 99)]),
        ("end,label,start\n2,a car,1\n1,a dog,0\n", [(0, 25), (25, 50)]),
    ],
)
def test_times_in_every_form_are_frames(
    listed: Callable[..., list[tuple[int, int]]], ends: str, ranges: list[tuple[int, int]]
) -> None:
    assert listed(ends, film(), "film.csv") == ranges


def test_a_time_is_the_nearest_frame_at_any_rate_and_start_of_the_clock(
    listed: Callable[..., list[tuple[int, int]]],
) -> None:
    late = film(3000, NTSC, start=126_000)  # 1.4 s
    first, end = (float(Fraction(number) / NTSC) for number in (1799, 2400))
    assert listed(f"start,end\n{first:.3f},{end:.3f}\n", late, "film.csv") == [(1799, 2400)]
    assert listed(f"start_s,end_s\n{first + 1.4:.3f},{end + 1.4:.3f}\n", late, "film.csv") == [(1799, 2400)]
    assert listed("start,end\n00:01:00:00,00:01:20:00\n", late, "film.csv") == [(1800, 2400)], "codes count to 30"


def test_a_list_names_films_by_as_much_of_their_paths_as_it_likes(
    listed: Callable[..., list[tuple[int, int]]],
) -> None:
    text = 'path,start,end\n"a/film.mp4",0,1\nb/film.mp4,1,2\n./other.mp4,2,3\ns3://k/film.mkv,3,4\n'
    text += "caf\u00e9.mp4,0,4\n"
    for uri, ranges in {
        "/x/a/film.mp4": [(0, 25)],
        "/x/b/film.mp4": [(25, 50)],
        "https://host/other.mp4": [(50, 75)],
        "s3://k/film.mkv": [(75, 100)],
        "/x/cafe\u0301.mp4": [(0, 100)],
    }.items():
        assert listed(text, film(uri=uri)) == ranges


def test_pyscenedetect_s_own_list_is_read_with_and_without_the_row_of_cuts(
    listed: Callable[..., list[tuple[int, int]]], tmp_path: Path
) -> None:
    from scenedetect.common import FrameTimecode
    from scenedetect.output import write_scene_list

    edges = [0, 31, 1800, 1801, 2997]
    times = [FrameTimecode(edge, fps=NTSC) for edge in edges]
    scenes = list(pairwise(times))
    for include, cuts in ((True, times[1:-1]), (True, None), (False, None)):
        write_scene_list(tmp_path / "film-Scenes.csv", scenes, include_cut_list=include, cut_list=cuts)
        text = (tmp_path / "film-Scenes.csv").read_text()
        assert listed(text, film(2997, NTSC), "film-Scenes.csv") == list(pairwise(edges))
    write_scene_list(tmp_path / "film-Scenes.csv", scenes[:1])  # no cut: its first row is empty
    assert listed((tmp_path / "film-Scenes.csv").read_text(), film(2997, NTSC), "film-Scenes.csv") == [(0, 31)]


EDL = """TITLE: Reel 3
FCM: NON-DROP FRAME

001  AX       V     C        00:00:00:00 00:00:01:00 01:00:00:00 01:00:01:00
* FROM CLIP NAME: film.mp4
002  AX       AA/V  C        00:00:02:10 00:00:03:00 01:00:01:00 01:00:01:15
* FROM CLIP NAME: other.mp4
003  AX       A2    C        00:00:01:00 00:00:02:00 01:00:01:15 01:00:02:15
004  BL       V     C        00:00:00:00 00:00:01:00 01:00:02:15 01:00:03:15
005  AX       V     C        00:00:01:05 00:00:01:05 01:00:03:15 01:00:03:15
005  AX       B     D    012 00:00:01:05 00:00:02:00 01:00:03:15 01:00:04:10
* FROM CLIP NAME: film.mp4
M2   AX       012.5          00:00:01:05
"""


def test_an_edl_gives_the_source_times_of_events_with_a_picture(listed: Callable[..., list[tuple[int, int]]]) -> None:
    assert listed(EDL, film(), "cut.edl") == [(0, 25), (30, 50)]
    assert listed(EDL, film(uri="other.mp4"), "cut.edl") == [(60, 75)]
    unnamed = "\n".join(line for line in EDL.splitlines() if "CLIP NAME" not in line)
    assert listed(unnamed, film(), "film.edl") == [(0, 25), (30, 50), (60, 75)]


BAD_LISTS = {
    "columns": ("path,strat,end\na,0,1\n", ["line 1", "got the columns path, strat, end", "strat meant to be start?"]),
    "no header": ("a.mp4,0,1\n", ["line 1", "expected first_frame and end_frame or"]),
    "empty": ("", ["got the columns none"]),
    "header alone": ("start,end\n\n", ["holds no span"]),
    "two columns": ("start,end,start\n0,1,2\n", ["the column start is there more than once"]),
    "values": ("start,end\n0,1\n1\n", ["line 3: got 1 values, expected 2"]),
    "no time": ("start,end\n0,1\n\n1,soon\n", ["line 4: got 'soon', expected seconds (12.5)"]),
    "minutes": ("start,end\n00:61:00,2\n", ["line 2: got '00:61:00'"]),
    "negative": ("start,end\n-1,2\n", ["line 2: got '-1'"]),
    "drop frame": ("start,end\n00:00:00;00,00:00:01;12\n", ["line 2: got the drop-frame time code 00:00:00;00"]),
    "frame": ("first_frame,end_frame\n0,2.5\n", ["line 2: got '2.5', expected the number of a frame"]),
    "seconds": ("start_s,end_s\n0,0:02\n", ["line 2: got '0:02', expected seconds"]),
    "end": ("start,end\n3,3\n", ["line 2: ends at 3, expected an end after the start at 3"]),
    "overlap": ("start,end\n5,7\n0,5.1\n", ["line 2: starts at 5, before the end at 5.1", "line 3"]),
    "no film": ("path,start,end\n ,0,1\n", ["line 2: has no path"]),
    "quotes": ('start,end\n"0"1,2\n', ["line 2: is no CSV"]),
}


@pytest.mark.parametrize("name", BAD_LISTS)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, name: str) -> None:
    text, said = BAD_LISTS[name]
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        SpansConfig(path=str(path)).build()
    assert str(error.value).startswith(str(path))
    for part in said:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FCM: DROP FRAME\n001 AX V C 00:00:00:00 00:00:01:00 00:00:00:00 00:00:01:00\n", "line 1: got drop-frame"),
        ("001  AX  V  C  00:00:00;00 00:00:01;00 00:00:00;00 00:00:01;00\n", "line 1: got the drop-frame time code"),
        ("\n001  AX  V  C  00:00:00:00\n", "line 2: got '001  AX  V  C  00:00:00:00', expected an event"),
        ("TITLE: nothing\n", "holds no span"),
        ("* CREATED WITH PYSCENEDETECT 0.7.2\nTITLE: PySceneDetect\n", "line 1: PySceneDetect's time codes"),
    ],
)
def test_a_mistake_in_an_edl_is_told_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.edl").write_text(text)
    with pytest.raises(ValueError, match=r"a\.edl") as error:
        SpansConfig(path=str(tmp_path / "a.edl")).build()
    assert said in str(error.value)


def test_a_folder_of_lists_on_a_store_is_read() -> None:
    store = fsspec.filesystem("memory")
    for name, text in (("film-Scenes.csv", "start,end\n0,1\n"), ("other.csv", "start,end\n1,2\n")):
        store.pipe_file(f"/lists/{name}", text.encode())
    detector = SpansConfig(path="memory://lists").build()
    assert detector.transitions(np.zeros((0, 0)), film()) == [Transition(25, 100, "gap")]
    assert detector.transitions(np.zeros((0, 0)), film(uri="s3://k/other.mp4"))[0] == Transition(0, 25, "gap")


def test_clips_of_a_timeline_count_from_the_first_frame_of_their_media(
    listed: Callable[..., list[tuple[int, int]]],
) -> None:
    def span(start: float, duration: float, rate: float = 25.0) -> dict[str, Any]:
        return {"start_time": {"value": start, "rate": rate}, "duration": {"value": duration, "rate": rate}}

    media = {"target_url": "file:///x/film.mp4", "available_range": span(90_000, 100)}
    clips = [
        {"OTIO_SCHEMA": "Clip.1", "media_reference": media, "source_range": span(90_010, 15)},
        {"OTIO_SCHEMA": "Gap.1", "source_range": span(0, 10)},
        {"OTIO_SCHEMA": "Clip.1", "media_reference": media, "source_range": span(7204, 1, 2)},
    ]
    sound = [{"OTIO_SCHEMA": "Clip.1", "media_reference": media, "source_range": span(90_000, 50)}]
    tracks = [
        {"OTIO_SCHEMA": "Track.1", "kind": "Video", "children": clips},
        {"OTIO_SCHEMA": "Track.1", "kind": "Audio", "children": sound},
    ]
    timeline = {"OTIO_SCHEMA": "Timeline.1", "tracks": {"OTIO_SCHEMA": "Stack.1", "children": tracks}}
    assert listed(json.dumps(timeline), film(), "cut.otio") == [(10, 25), (50, 62)]
    for wrong, said in (
        ({"source_range": span(90_010, -5)}, "clip 1 (without a name): ends at 0.200 s, expected an end after"),
        ({"source_range": {"start_time": {}}, "name": "a"}, "clip 1 (a): has no source_range"),
    ):
        with pytest.raises(ValueError, match=r"cut\.otio") as error:
            listed(json.dumps({**clips[0], **wrong}), film(), "cut.otio")
        assert said in str(error.value)
    with pytest.raises(ValueError, match=r"cut\.otio: is no JSON"):
        listed("{", film(), "cut.otio")


def test_lists_that_are_missing_not_text_or_name_a_film_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such list"):
        SpansConfig(path=str(tmp_path / "none.csv")).build()
    with pytest.raises(ValueError, match="no list of shots in this folder"):
        SpansConfig(path=str(tmp_path)).build()
    (tmp_path / "a.csv").write_bytes(b"start,end\n\xff,1\n")
    with pytest.raises(ValueError, match=r"line 2: is not UTF-8"):
        SpansConfig(path=str(tmp_path / "a.csv")).build()
    (tmp_path / "a.csv").write_text("start,end\n0,1\n")
    (tmp_path / "a-Scenes.csv").write_text("start,end\n1,2\n")
    with pytest.raises(ValueError, match=r"a has spans in .*a-Scenes.csv, line 2, too"):
        SpansConfig(path=str(tmp_path)).build()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("start,end\n3,4.1\n", "line 2: 4.1 is past the end of the film, at 4.000 s"),
        ("first_frame,end_frame\n0,101\n", "line 2: 101 is past the end of the film, which has 100 frames"),
        ("start_s,end_s\n0,2\n", "line 2: 0 is before the first frame, at 1.000 s"),
        ("start,end\n0:00:00:25,2\n", "line 2: 0:00:00:25 has frame 25, and the film 25 frames per second"),
        ("start,end\n1.001,1.002\n", "line 2: 1.001 to 1.002 holds no frame"),
        ("start,end\n1,2\n0:00:01:12,3\n", "line 3: overlaps the span of"),
    ],
)
def test_spans_that_do_not_fit_the_film_are_a_failure_with_their_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "film.csv").write_text(text)
    with pytest.raises(MediaError) as error:
        SpansConfig(path=str(tmp_path / "film.csv")).build().transitions(np.zeros((0, 0)), film(start=90_000))
    assert error.value.kind == FailureKind.SPANS and said in error.value.detail


def test_times_up_to_a_frame_past_the_end_mean_the_end(listed: Callable[..., list[tuple[int, int]]]) -> None:
    assert listed("start,end\n0,4.04\n", film(), "film.csv") == [(0, 100)]


def test_a_film_without_a_line_is_told_at_once_or_is_one_shot_or_none(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,start,end\na.mp4,0,1\nold.mp4,0,1\n")
    path, uris = str(tmp_path / "list.csv"), ["/x/a.mp4", "/x/b.mp4"]
    with pytest.raises(ValueError, match=r"no line for 1 of 2 films, such as /x/b.mp4"):
        SpansConfig(path=path).build().check(uris)
    told = {}
    for unlisted in ("whole", "skip"):
        detector = SpansConfig(path=path, unlisted=unlisted).build()
        told[unlisted] = detector.transitions(np.zeros((0, 0)), film(uri="/x/b.mp4"))
        notes = detector.check(uris)
        assert "1 films that are no input, such as old.mp4" in notes[0] and "no line for 1 of 2" in notes[1]
    assert told == {"whole": [], "skip": [Transition(0, 100, "gap")]}


def test_a_name_that_several_films_have_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,start,end\na.mp4,0,1\n")
    with pytest.raises(ValueError, match=r"line 2: a.mp4 is the name of 2 films \(/x/a.mp4, /y/a.mp4\)"):
        SpansConfig(path=str(tmp_path / "list.csv")).build().check(["/x/a.mp4", "/y/a.mp4"])


def test_the_key_of_a_film_depends_on_its_own_lines_and_not_on_where_the_list_is(tmp_path: Path) -> None:
    def keys(name: str, text: str) -> list[str]:
        (tmp_path / name).write_text(text)
        of = ScanKeys(ScanConfig(detector=SpansConfig(path=str(tmp_path / name), unlisted="skip"))).of
        return [of(uri) for uri in ("/x/a.mp4", "/x/b.mp4", "/x/c.mp4")]

    before = keys("list.csv", "path,start,end\na.mp4,0,1\nb.mp4,2,3\nb.mp4,0,1\n")
    assert keys("moved.csv", "start,end,path\n0.0,1.0,a.mp4\n0,1,b.mp4\n2,3,b.mp4\n") == before
    after = keys("list.csv", "path,start,end\na.mp4,0,1\nb.mp4,2,3.5\nb.mp4,0,1\nc.mp4,0,1\n")
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, False]


@pytest.mark.parametrize(("name", "fps"), [("film.mp4", Fraction(24)), ("film.mkv", NTSC), ("film.ts", Fraction(25))])
def test_lists_that_reelpack_writes_give_the_same_shots(
    draw_scenes: Callable[..., np.ndarray], write_video: Callable[..., str], tmp_path: Path, name: str, fps: Fraction
) -> None:
    path = write_video(name, draw_scenes([70], width=64, height=48), fps=fps)
    strides = ScanConfig(detector=StrideConfig(length_s=0.7, min_last_s=0.5))
    made = find_shots(path, path, strides)
    assert len(made.clips) >= 3
    for ending, write in ((".csv", as_csv), (".edl", as_edl), (".otio", as_otio)):
        (tmp_path / f"list{ending}").write_text(write(made))
        read = find_shots(path, path, ScanConfig(detector=SpansConfig(path=str(tmp_path / f"list{ending}"))))
        assert [(one.first, one.end) for one in read.clips] == [(one.first, one.end) for one in made.clips]


def test_spans_past_the_end_are_a_typed_failure_of_the_scan_also_in_parts(
    draw_scenes: Callable[..., np.ndarray], write_video: Callable[..., str], tmp_path: Path
) -> None:
    path = write_video("film.mp4", draw_scenes([90], width=64, height=48))
    (tmp_path / "film.csv").write_text("start,end\n0,9\n")
    config = ScanConfig(detector=SpansConfig(path=str(tmp_path / "film.csv")))
    file = SourceFile(uri="film.mp4", path=path, size_bytes=0, video_id="v")
    (whole,) = ScanStage(config).process([file])
    assert isinstance(whole, Failure) and whole.kind == FailureKind.SPANS and "line 2" in whole.detail
    parts = plan_parts(path, 1.0)
    assert len(parts) > 1
    assert assemble(ScanStage(config).process([replace(file, part=part) for part in parts]), config) == whole
