"""Shots from a list: made by hand, by an editing program, or by another detector."""

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from curate.schema import FailureKind, MediaError, content_digest
from curate.shots.base import Timeline, Transition
from curate.shots.span_lists import Span, SpanTable, read_spans
from curate.shots.span_times import frame_at
from curate.shots.weightless import Unscored
from curate.storage.access import public
from curate.storage.place import is_url, local_path

NUM_NAMED = 3


class SpansConfig(BaseModel):
    """The spans of a list: CSV, PySceneDetect's scene list, EDL or OpenTimelineIO."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["spans"] = "spans"
    path: str = Field(min_length=1, description="the list (.csv, .edl or .otio), or a folder of lists; a path or URL")
    unlisted: Literal["error", "whole", "skip"] = Field(
        default="error",
        description="a film without a line in the list is an error before anything is scanned, one shot, or no shot",
    )

    @field_validator("path")
    @classmethod
    def _from_any_folder(cls, path: str) -> str:
        return path if is_url(path) else local_path(path)

    def build(self) -> "SpansDetector":
        """Reads the list.

        Raises:
            ValueError: it is not there or has a mistake; with the line.
        """
        return SpansDetector(self, read_spans(self.path))


class SpansDetector(Unscored):
    """Frames outside the spans belong to no shot. A list that gains lines changes the films that they are of alone."""

    def __init__(self, config: SpansConfig, table: SpanTable) -> None:
        self._config, self._table = config, table

    def digest(self, uri: str) -> str:
        name = self._name(uri)
        if name is None:
            return "unlisted"
        ends = [moment for span in self._table[name] for moment in (span.start, span.end)]
        return content_digest(*(f"{end.unit} {end.value} {end.frames}" for end in ends))

    def check(self, uris: Collection[str]) -> list[str]:
        """Compare the list with the films that it is for.

        Returns:
            What is worth telling.

        Raises:
            ValueError: films lack lines, where `unlisted` is `error`; or one name in the list is of several films.
        """
        names = {uri: self._name(uri) for uri in sorted(uris)}
        path = public(self._config.path)
        for name, count in Counter(names.values()).items():
            if name is not None and count > 1:
                films = ", ".join(uri for uri in names if names[uri] == name)
                raise ValueError(
                    f"{self._table[name][0].where}: {name} is the name of {count} films ({films}); give as much of "
                    "each one's path as tells them apart"
                )
        unlisted = [uri for uri, name in names.items() if name is None]
        if unlisted and self._config.unlisted == "error":
            raise ValueError(
                f"{path}: has no line for {len(unlisted)} of {len(uris)} films, such as "
                f"{', '.join(unlisted[:NUM_NAMED])}; add them, or set `unlisted` to whole or skip"
            )
        unknown = sorted(self._table.keys() - set(names.values()))
        notes = [f"{path}: names {len(unknown)} films that are no input, such as {unknown[0]}"] if unknown else []
        return notes + ([f"{path}: has no line for {len(unlisted)} of {len(uris)} films"] if unlisted else [])

    def transitions(self, scores: np.ndarray, timeline: Timeline) -> list[Transition]:
        """The gaps between the spans, and cuts where one begins as another ends.

        Raises:
            MediaError: SPANS: they do not fit the film, or there are none for it.
        """
        num_frames, name = len(timeline.pts), self._name(timeline.uri)
        if name is None:
            if self._config.unlisted == "error":
                raise MediaError(FailureKind.SPANS, f"{public(self._config.path)} has no line for {timeline.uri}")
            return [] if self._config.unlisted == "whole" else [Transition(0, num_frames, "gap")]
        ranges = _ranges(self._table[name], timeline)
        edges = [(0, 0), *ranges, (num_frames, num_frames)]
        return [
            Transition(before, after, "cut" if before == after else "gap")
            for (_, before), (after, _) in pairwise(edges)
            if before < after or 0 < before < num_frames
        ]

    def _name(self, uri: str) -> str | None:
        """What the list calls a film; the longest name that fits."""
        return next((name for name in _names(uri) if name in self._table), None)


def _names(uri: str) -> Iterator[str]:
    """The URI, what follows each of its slashes, and the last of that without its ending; accents composed."""
    uri = unicodedata.normalize("NFC", uri)
    yield uri
    for position, char in enumerate(uri):
        if char == "/":
            yield uri[position + 1 :]
    yield PurePosixPath(uri).stem


def _ranges(spans: Collection[Span], timeline: Timeline) -> list[tuple[int, int]]:
    """Frame ranges of the spans, in order."""
    found: list[tuple[int, int, Span]] = []
    for span in spans:
        try:
            first, end = frame_at(span.start, timeline), frame_at(span.end, timeline)
        except ValueError as error:
            raise MediaError(FailureKind.SPANS, f"{span.where}: {error}") from error
        if first >= end:
            raise MediaError(FailureKind.SPANS, f"{span.where}: {span.start.text} to {span.end.text} holds no frame")
        found.append((first, end, span))
    found.sort(key=lambda one: one[:2])
    for (_, end, span), (first, _, other) in pairwise(found):
        if first < end:
            raise MediaError(
                FailureKind.SPANS,
                f"{other.where}: overlaps the span of {span.where} by {end - first} frames of {timeline.uri}",
            )
    return [(first, end) for first, end, _ in found]
