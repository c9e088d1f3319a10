"""The cascade with its real network: parts, threads and batches give the bits of one pass."""

from pathlib import Path

import numpy as np
import torch

from curate.measure import Measured
from curate.media.parts import WHOLE, Part, plan_parts
from curate.media.probe import probe
from curate.scan import ScanConfig, ScanStage, SourceFile, assemble, measure_file, scan
from curate.shots.cascade import ALL, CascadeConfig
from tests.curate.shots.test_cascade import film
from tests.support.film_files import Encoding, write_film
from tests.support.film_joins import Join
from tests.support.footage import FILM_FPS

CONFIG = ScanConfig(detector=CascadeConfig())


def measured(path: str, part: Part) -> Measured:
    """By a worker of its own."""
    size_bytes = Path(path).stat().st_size
    (outcome,) = ScanStage(CONFIG).process(
        [SourceFile(uri=path, path=path, size_bytes=size_bytes, video_id="v", part=part)]
    )
    assert isinstance(outcome, Measured), outcome
    return outcome


def test_parts_and_threads_give_the_scores_and_transitions_of_one_pass(tmp_path: Path) -> None:
    cuts = [Join(effect="cut", mixed=0)] * 3
    rgb, labels = film(*cuts, Join(effect="dissolve", mixed=12), *cuts, Join(effect="wipe", mixed=9))
    path = str(tmp_path / "film.mp4")
    write_film(iter(rgb), Path(path), FILM_FPS, Encoding(gop=12))
    detector = CONFIG.detectors.ready(path)
    whole = measure_file(probe(path, path, "v"), path, CONFIG, detector)
    threads = torch.get_num_threads()
    parts = plan_parts(path, len(rgb) / 24 / 2.5, detector.window.warm_frames)
    assert len(parts) >= 2 and WHOLE not in parts and (whole.scores[:, ALL] > 0).any(), "the network is asked"
    try:
        torch.set_num_threads(3 - min(threads, 2))
        outcomes = [measured(path, part) for part in reversed(parts)][::-1]
    finally:
        torch.set_num_threads(threads)
    assert np.concatenate([one.scores for one in outcomes]).tobytes() == whole.scores.tobytes()
    scanned = assemble(outcomes, CONFIG)
    assert scanned == scan(probe(path, path, "v"), path, CONFIG) and len(scanned.clips) == len(labels) + 1
