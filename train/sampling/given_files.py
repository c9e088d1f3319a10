"""Files that a user supplies for a video, by the options of `reelpack sample`; `read_given` encodes them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenFiles:
    """Pictures or videos, by the options of `reelpack sample`. Times count frames of the video that is generated.

    Attributes:
        start: a picture that the video begins with, or a clip that it continues.
        end: a picture that the video ends with, or a clip that it leads to.
        keys: pictures by number of a frame.
        video: a video that is edited, or with `extend` continued.
        mask: what of `video` is made new: white. A picture, or a video of as many frames.
        extend: `video` is the start ("forward") or the end ("back").
        loop: the end is the beginning of `start`.
        invert: a video that is edited by inversion.
    """

    start: Path | None = None
    end: Path | None = None
    keys: Mapping[int, Path] = field(default_factory=dict)
    video: Path | None = None
    mask: Path | None = None
    extend: Literal["back", "forward"] | None = None
    loop: bool = False
    invert: Path | None = None

    def __post_init__(self) -> None:
        if self.invert is not None and (self.start or self.end or self.keys or self.video or self.mask or self.loop):
            raise ValueError(f"--invert {self.invert}: a clip is edited as a whole; leave what else is given out")
        if self.extend is not None and (self.video is None or self.mask is not None):
            raise ValueError(f"--extend {self.extend}: expected --video FILE, what is extended, and no --mask")
        if self.extend is not None and (self.start, self.end)[self.extend == "back"] is not None:
            side = "--end" if self.extend == "back" else "--start"
            raise ValueError(f"--extend {self.extend} makes of the video what {side} gives; leave one of them out")
        if self.loop and (self._first is None or self._last is not None):
            raise ValueError("--loop returns to the start: expected --start FILE, and no end; leave one of them out")
        if self.mask is not None and self.video is None:
            raise ValueError(f"--mask {self.mask}: expected --video FILE, of which it shows what is made new")
        if self._edited is not None and (self._first or self._last or self.keys):
            raise ValueError("--video is edited as a whole: leave --start, --end, --keys and --loop out, or --video")

    def __bool__(self) -> bool:
        return self != NOTHING

    @property
    def facts(self) -> dict[str, Any]:
        """For the record of what was generated."""
        given = {**asdict(self), "keys": {number: str(path) for number, path in self.keys.items()} or None}
        return {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}

    def check_strength(self, strength: float) -> None:
        """See that a video is edited where there is one, and is there where it is needed.

        Raises:
            ValueError: it is not.
        """
        if self.video is not None and self._edited is not None and self.mask is None and strength == 1:
            raise ValueError(
                f"--video {self.video}: expected what is done with it: --mask FILE, --strength below 1, or --extend"
            )
        if strength < 1 and self._edited is None:
            raise ValueError(f"--strength {strength:g} starts from a video: expected --video FILE or --invert FILE")

    @property
    def _first(self) -> Path | None:
        return self.video if self.extend == "forward" else self.start

    @property
    def _last(self) -> Path | None:
        return self.video if self.extend == "back" else self.end

    @property
    def _edited(self) -> Path | None:
        return self.invert or (self.video if self.extend is None else None)

    @property
    def parts(self) -> tuple[Path | None, Path | None, Path | None]:
        """Files of the start, of the end, and of what is edited. The end of a loop is its start's beginning."""
        return self._first, self._first if self.loop else self._last, self._edited


NOTHING = GivenFiles()
