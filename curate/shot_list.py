"""The shots of one file, with the scores that they were found by: what `reelpack shots` shows."""

from dataclasses import dataclass

import numpy as np

from curate.media.probe import content_id, probe
from curate.scan import ScanConfig, measure_file
from curate.scanned import resizes_of, thumbs_of, timeline_of
from curate.schema import Video
from curate.shots.base import Timeline, Transition
from curate.shots.clip_ranges import divide
from curate.shots.shot import Shot


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ShotList:
    """The shots of a file that was decoded from its first frame to its last.

    Attributes:
        video: The file.
        timeline: When its frames are shown.
        scores: `(n, num_scores)` float64, of the detector.
        transitions: In order.
        clips: Of the shots; by default each is one clip.
        num_short: Shots that give no clip.
    """

    video: Video
    timeline: Timeline
    scores: np.ndarray
    transitions: tuple[Transition, ...]
    clips: tuple[Shot, ...]
    num_short: int


def find_shots(path: str, uri: str, config: ScanConfig) -> ShotList:
    """Probe and scan a file, as `curate` does.

    Args:
        path: Local file.
        uri: The user's name for it.
        config: The settings.

    Raises:
        MediaError: The kinds of `probe` and of `scan`.
        MissingWeights: The detector's weights are not on this machine.
    """
    detector = config.detectors.ready(uri)
    video = probe(path, uri, content_id(path), max_pixels=config.max_pixels, time_limit_s=config.time_limit_s)
    measured = measure_file(video, path, config, detector)
    video, timeline = timeline_of([measured])
    transitions = detector.transitions(measured.scores, timeline)
    found = divide(transitions, resizes_of([measured]), timeline, thumbs_of([measured]), config.pieces)
    return ShotList(
        video=video,
        timeline=timeline,
        scores=measured.scores,
        transitions=tuple(transitions),
        clips=found.ranges,
        num_short=found.num_short,
    )
