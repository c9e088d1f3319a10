"""Interlaced frames, which show two moments line by line → progressive frames, one for one, at the same times."""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from curate.media.clock import DecodedFrame, TimedFrame

if TYPE_CHECKING:
    import av
    from av.filter import Graph

FILTER, ARGUMENTS = "bwdif", "mode=send_frame:parity=auto:deint=interlaced"
"""The Bob Weaver filter: of each frame the earlier field is kept, and the lines between are made from neighbors in
space and time. Frames that do not say that they are interlaced pass unchanged."""


def deinterlaced(frames: Iterator[TimedFrame]) -> Iterator[TimedFrame]:
    """The same frames without combs. Gives each frame once the next one is there; the ends have one neighbor only."""
    waiting: deque[TimedFrame] = deque()
    graph: Graph | None = None
    shape: tuple[int, int, str] | None = None
    for number, frame in enumerate(frames):
        image = frame.image
        found = image.width, image.height, image.format.name
        if found != shape:
            yield from _rest(graph, waiting)
            graph, shape = _graph(image), found
        assert graph is not None
        waiting.append(frame)
        image.pts, image.time_base = number, Fraction(1)
        graph.vpush(image)
        yield from _ready(graph, waiting)
    yield from _rest(graph, waiting)


def _graph(image: "av.VideoFrame") -> "Graph":
    from av.filter import Graph

    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(width=image.width, height=image.height, format=image.format, time_base=Fraction(1))
    graph.link_nodes(source, graph.add(FILTER, ARGUMENTS), graph.add("buffersink")).configure()
    return graph


def _ready(graph: "Graph", waiting: deque[TimedFrame]) -> Iterator[TimedFrame]:
    from av.error import BlockingIOError, EOFError

    while waiting:
        try:
            image = graph.vpull()
        except (BlockingIOError, EOFError):
            return
        frame = waiting.popleft()
        decoded = DecodedFrame(image=image, sample_aspect_ratio=frame.decoded.sample_aspect_ratio)
        yield replace(frame, decoded=decoded)


def _rest(graph: "Graph | None", waiting: deque[TimedFrame]) -> Iterator[TimedFrame]:
    if graph is not None:
        graph.vpush(None)
        yield from _ready(graph, waiting)
