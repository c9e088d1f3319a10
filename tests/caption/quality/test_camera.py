import pytest

from caption.quality.camera import CameraConfig, claims
from tests.support.caption_faults import case


def codes(text: str, *camera: str, level: str = "dense", kind: str = "video") -> list[str]:
    entry = {"text": text, "level": level, "kind": kind} | ({"camera": camera} if camera else {})
    one = case(None, entry)
    return [finding.code for finding in CameraConfig().build().of_caption(one.record, one.evidence)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("The camera slowly pans to the left and tilts up.", {"pan left", "tilt up"}),
        ("The camera pans from left to right.", {"pan right"}),
        ("The camera does not pan left. The camera does not move.", {"static"}),
        ("The camera pans left, then pans right.", set()),
        ("A sign reads 'the camera pans left'.", set()),
        ("He tilts his head up in front of the camera.", set()),
    ],
)
def test_claims_are_read_from_sentences(text: str, said: set[str]) -> None:
    assert claims(text) == said


def test_the_opposite_of_what_is_measured_is_found() -> None:
    assert codes("The camera pans left.", "pan right") == ["camera_contradicted"]
    assert codes("The camera pans left.", "static") == ["camera_contradicted"]
    assert codes("A static shot of a door.", "zoom in") == ["camera_contradicted"]
    assert codes('{"camera": "pans left"}', "pan right", level="fields") == ["camera_contradicted"]


def test_what_is_not_measured_or_does_not_exclude_it_passes() -> None:
    assert not codes("The camera pans left.")
    assert not codes("The camera pans left.", "zoom in")
    assert not codes("The camera pans left.", "pan left", "tilt up")
    assert not codes("The camera pans left.", "static", kind="image")
    assert not codes('{"camera": "static"}', "static", level="fields")


def test_the_instruction_is_the_measured_motion() -> None:
    one = case(None, {"text": "The camera pans left.", "camera": ["zoom in"]})
    assert not list(CameraConfig().build().of_caption(one.record, one.evidence))
    one = case(None, {"text": "A static shot of a door.", "camera": ["zoom in"]})
    (finding,) = CameraConfig().build().of_caption(one.record, one.evidence)
    assert "Measured camera motion: zoom in." in finding.instruction
