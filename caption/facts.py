"""What is measured of a clip: facts that a prompt gives to the model, and that no caption may contradict."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

STATIC_SPEED = 0.01
"""Motion of a clip that does not move, short sides per second: what noise alone gives, see `curate.signals.motion`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """Measured of a clip.

    Attributes:
        kind: A still image, or a video.
        duration_s: Seconds; None where it is not known.
        camera: Motions of the camera in the field's terms, such as `pan left` or `zoom in`; `static`; None: not
            measured.
        is_static: Nothing moves, the camera included; None: not measured.
    """

    kind: Literal["video", "image"] = "video"
    duration_s: float | None = None
    camera: tuple[str, ...] | None = None
    is_static: bool | None = None

    def sentence(self) -> str:
        """For a prompt; empty where nothing is measured."""
        if self.kind == "image" or self.camera is None:
            return ""
        return f"Measured camera motion: {', '.join(self.camera)}."


NOTHING_MEASURED = Facts()


def facts_of(row: Mapping[str, Any]) -> Facts:
    """The facts in a row of the index that is joined with the signals of its clip."""
    motion = row.get("motion")
    return Facts(
        kind="image" if row.get("kind") == "image" else "video",
        duration_s=row.get("duration_s"),
        is_static=None if motion is None else motion < STATIC_SPEED,
    )
