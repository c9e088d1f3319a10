"""Which detector a file gets, and what its scan key depends on."""

import pytest

from curate.scan import ScanConfig, ScanKeys
from curate.shots.adaptive import AdaptiveConfig
from curate.shots.sources import SourceConfig
from curate.shots.stride import StrideConfig
from curate.shots.whole import WholeConfig

LONG, SHORT = StrideConfig(length_s=20), StrideConfig(length_s=5)


def config(**patterns: StrideConfig) -> ScanConfig:
    sources = tuple(SourceConfig(match=match, detector=detector) for match, detector in patterns.items())
    return ScanConfig(detector=AdaptiveConfig(), sources=sources)


@pytest.mark.parametrize(
    ("match", "uri", "fits"),
    [
        ("talks/*", "/data/talks/a.mp4", True),
        ("talks/*", "/data/talks/2024/a.mp4", True),
        ("talks/*", "s3://bucket/talks/a.mp4", True),
        ("talks/*", "/data/mytalks/a.mp4", False),
        ("*.mkv", "/data/a.mkv", True),
        ("*.mkv", "/data/a.mkv.mp4", False),
        ("/data/*", "/data/a.mp4", True),
        ("/data/*", "/other/data/a.mp4", False),
        ("a.mp4", "/data/a.mp4", True),
        ("a.mp4", "/data/ba.mp4", False),
        ("s3://bucket/*", "s3://bucket/x/y.mp4", True),
        ("A.mp4", "/data/a.mp4", False),
        ("[ab].mp4", "/data/b.mp4", True),
        ("*.mp4", "/data/two\nlines.mp4", True),
    ],
)
def test_a_pattern_is_for_the_uri_or_for_what_follows_a_slash(match: str, uri: str, fits: bool) -> None:
    found = config(**{match: LONG}).detectors.config_of(uri)
    assert found == (LONG if fits else AdaptiveConfig())


def test_the_first_pattern_that_matches_counts_and_useless_ones_are_named() -> None:
    detectors = config(**{"a/*": LONG, "*.mp4": SHORT, "a/b.mp4": LONG, "c/*": LONG}).detectors
    uris = ["/x/a/b.mp4", "/x/b.mp4", "/x/b.avi"]
    assert [detectors.config_of(uri) for uri in uris] == [LONG, SHORT, AdaptiveConfig()]
    notes = [f"scan.sources: {name} takes none of 3 inputs" for name in ("a/b.mp4", "c/*")]
    assert detectors.check(uris) == notes
    assert detectors.check(uris, known=["/x/c/a.avi"]) == notes[:1]


def test_a_source_changes_the_keys_of_the_files_that_it_matches_alone() -> None:
    plain, more = ScanKeys(config()), ScanKeys(config(**{"talks/*": LONG, "*.mkv": SHORT}))
    assert more.of("/x/a.mp4") == plain.of("/x/a.mp4") == plain.of("/x/talks/a.mp4")
    assert len({more.of(uri) for uri in ("/x/a.mp4", "/x/talks/a.mp4", "/x/a.mkv")}) == 3
    assert more.of("/x/a.mkv") == ScanKeys(ScanConfig(detector=SHORT)).of("/x/a.mkv"), "one scan, however it is asked"


def test_every_matched_file_can_be_left_as_it_is() -> None:
    sources = (SourceConfig(match="clips/*", detector=WholeConfig()),)
    detectors = ScanConfig(detector=LONG, sources=sources).detectors
    assert [detector.num_scores for detector in detectors] == [0, 0]
    assert detectors.config_of("clips/a.mp4") == WholeConfig()
