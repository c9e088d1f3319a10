"""Lists of shots that others made: CSV, PySceneDetect's CSV, EDL (CMX 3600), OpenTimelineIO."""

import csv
import difflib
import io
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import PurePosixPath

from fsspec.implementations.local import LocalFileSystem

from curate.media.version import local_version, remote_version
from curate.shots.otio import read_clips
from curate.shots.span_times import Moment, read_frame, read_moment, read_seconds
from curate.storage.access import public
from curate.storage.place import locate, url_of

ENDINGS = (".csv", ".tsv", ".txt", ".edl", ".otio")
SEPARATORS = ",\t;"
VIDEO_COLUMNS = ("uri", "path", "video")
READERS: Mapping[tuple[str, str], Callable[[str], Moment]] = {
    ("first_frame", "end_frame"): read_frame,
    ("start_s", "end_s"): partial(read_seconds, unit="clock"),
    ("start", "end"): read_moment,
}
"""Columns of a span's two ends → what reads them. Where a list has several, the first counts."""
SCENES = ("start time (seconds)", "end time (seconds)")
"""The columns of PySceneDetect that are exact to the frame, at any rate."""
SCENE_NUMBER = "scene number"
EVENT = re.compile(r"\d+\s+(?P<reel>\S+)\s+(?P<track>\S+)\s+[CDWK]\S*(?:\s+\d{1,3})?(?P<times>(?:\s+\S*[:;]\S*){4})")
CLIP_NAME = re.compile(r"\*\s*FROM CLIP NAME:\s*(.+)", re.IGNORECASE)
NO_MEDIA = frozenset({"BL"})
"""Reels of an EDL that are no film: black."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A stretch of a film, as a list has it. `where` is the list's name and the line."""

    where: str
    start: Moment
    end: Moment


SpanTable = Mapping[str, tuple[Span, ...]]
"""What a list calls a film (as much of its path as tells films apart, or its name without ending) → its spans."""


class MissingList(ValueError):
    """A list of shots that is not there; the message says where."""


def read_spans(url: str) -> SpanTable:
    """Read a list, or all lists in a folder. A list that names no films is of the film that it is called after:
    `talk.csv`, `talk-Scenes.csv` or `talk.edl` of `talk.mp4`.

    Raises:
        MissingList: it is not there.
        ValueError: it cannot be read as it stands, or holds no span; with the line.
    """
    fs, path = locate(url)
    name = public(url)
    try:
        if fs.isdir(path):
            names = [entry for entry in sorted(fs.ls(path, detail=False)) if entry.lower().endswith(ENDINGS)]
            if not names:
                raise ValueError(f"{name}: no list of shots in this folder; expected .csv, .edl or .otio files")
            lists = [_read(url_of(fs, entry)) for entry in names]
        else:
            lists = [_read(url)]
    except FileNotFoundError as error:
        raise MissingList(f"{name}: there is no such list of shots; put it back, or name another one") from error
    except OSError as error:
        raise ValueError(f"{name}: cannot be read ({error})") from error
    table: dict[str, tuple[Span, ...]] = {}
    for of_list in lists:
        for film, spans in of_list.items():
            if film in table:
                raise ValueError(f"{spans[0].where}: {film} has spans in {table[film][0].where}, too; name it in one")
            table[film] = spans
    return table


def _read(url: str) -> SpanTable:
    fs, path = locate(url)
    return _parsed(url, local_version(path) if isinstance(fs, LocalFileSystem) else remote_version(fs.info(path)))


@lru_cache(maxsize=4096)
def _parsed(url: str, version: str) -> SpanTable:
    """A list is read once per process, and again where its version is another."""
    name = public(url)
    fs, path = locate(url)
    data = fs.cat_file(path)
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{name}, line {line}: is not UTF-8 (byte 0x{data[error.start]:02x}); save it so") from error
    film = PurePosixPath(path).stem.removesuffix("-Scenes")
    read = {"edl": _read_edl, "otio": _read_otio}.get(path.lower().rpartition(".")[2], _read_csv)
    spans: dict[str, list[Span]] = {}
    for named, span in read(text, name):
        name_of_film = unicodedata.normalize("NFC", named or film).removeprefix("file://").removeprefix("./")
        spans.setdefault(name_of_film, []).append(span)
    if not spans:
        raise ValueError(f"{name}: holds no span; expected at least one line with a start and an end")
    return {named: _in_order(of_film) for named, of_film in spans.items()}


def _in_order(spans: Iterable[Span]) -> tuple[Span, ...]:
    """By their starts. Spans in several units are compared when the film is known."""
    found = sorted(spans, key=lambda span: (span.start.unit, span.start.order))
    is_one_unit = len({end.unit for span in found for end in (span.start, span.end)}) == 1
    for one, other in pairwise(found if is_one_unit else ()):
        if one.end.order > other.start.order:
            raise ValueError(
                f"{other.where}: starts at {other.start.text}, before the end at {one.end.text} of the span of "
                f"{one.where}; spans of one film must not overlap"
            )
    return tuple(found)


def _span(where: str, start: str, end: str, read: Callable[[str], Moment]) -> Span:
    try:
        return _checked(Span(where=where, start=read(start), end=read(end)))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _checked(span: Span) -> Span:
    if span.start.unit == span.end.unit and span.end.order <= span.start.order:
        raise ValueError(f"ends at {span.end.text}, expected an end after the start at {span.start.text}")
    return span


def _read_csv(text: str, name: str) -> Iterator[tuple[str, Span]]:
    rows = _rows(text, name)
    line, header = next(rows, (1, []))
    if not _is_header(header):  # PySceneDetect writes the times of all cuts first
        after = next(rows, None)
        line, header = after if after and _is_header(after[1]) else (line, header)
    columns = [column.strip().lower() for column in header]
    ends, read = _ends(columns, f"{name}, line {line}")
    start, end = (columns.index(column) for column in ends)
    film = next((columns.index(column) for column in VIDEO_COLUMNS if column in columns), None)
    for line, row in rows:
        where = f"{name}, line {line}"
        if len(row) != len(columns):
            raise ValueError(f"{where}: got {len(row)} values, expected {len(columns)} as in the header")
        if film is not None and not row[film].strip():
            raise ValueError(f"{where}: has no {columns[film]}; expected the film's path")
        yield "" if film is None else row[film].strip(), _span(where, row[start], row[end], read)


def _rows(text: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with the line that each begins on; empty ones are none."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(SEPARATORS, key=header.count)
    reader, begins = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True), 1
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield begins, row
            begins = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{name}, line {begins}: is no CSV ({error})") from error


def _is_header(row: Sequence[str]) -> bool:
    names = {cell.strip().lower() for cell in row}
    return SCENE_NUMBER in names or any(column in names for pair in READERS for column in pair)


def _ends(columns: Sequence[str], where: str) -> tuple[tuple[str, str], Callable[[str], Moment]]:
    """The columns of a span's ends, and what reads them."""
    if SCENE_NUMBER in columns and set(SCENES) <= set(columns):
        return SCENES, read_seconds
    for pair, read in READERS.items():
        if set(pair) <= set(columns):
            if twice := next((column for column in (*pair, *VIDEO_COLUMNS) if columns.count(column) > 1), None):
                raise ValueError(f"{where}: the column {twice} is there more than once; rename one")
            return pair, read
    known = [column for pair in READERS for column in pair]
    near = [(column, found[0]) for column in columns if (found := difflib.get_close_matches(column, known, 1))]
    hint = "".join(f"; is {column} meant to be {other}?" for column, other in near if column != other)
    raise ValueError(
        f"{where}: got the columns {', '.join(columns) or 'none'}; expected {' or '.join(map(' and '.join, READERS))}"
        f"{hint}"
    )


def _read_edl(text: str, name: str) -> Iterator[tuple[str, Span]]:
    """Source times of the events with a picture; a film is named by the clip name below its event."""
    if "PYSCENEDETECT" in text.partition("\n")[0]:  # its codes are a frame early, or run ahead: see findings/
        raise ValueError(f"{name}, line 1: PySceneDetect's time codes name other frames than its cuts; give its CSV")
    pending: Span | None = None
    clip = ""
    for number, line in enumerate(text.splitlines(), 1):
        line, where = line.strip(), f"{name}, line {number}"
        if found := CLIP_NAME.fullmatch(line):
            clip = found[1]
        elif line.upper().startswith("FCM:") and "NON" not in line.upper():
            raise ValueError(f"{where}: got drop-frame time codes; export the list with non-drop ones")
        elif re.match(r"\d{3,6}\s", line):
            if pending:
                yield clip, pending
            pending, clip = _event(line, where), ""
    if pending:
        yield clip, pending


def _event(line: str, where: str) -> Span | None:
    """None for an event without a picture of a film."""
    found = EVENT.fullmatch(line)
    if not found:
        raise ValueError(f"{where}: got {line!r}, expected an event such as 001  AX  V  C  and four time codes")
    if found["reel"] in NO_MEDIA or not set(found["track"].upper()) & {"V", "B"}:
        return None
    start, end, *_ = found["times"].split()
    if start == end:  # what a dissolve comes from
        return None
    return _span(where, start, end, read_moment)


def _read_otio(text: str, name: str) -> Iterator[tuple[str, Span]]:
    where = name
    try:
        for place, film, start, end in read_clips(text):
            where = f"{name}, {place}"
            yield film, _checked(Span(where=where, start=start, end=end))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
