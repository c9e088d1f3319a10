"""One kept clip: its facts, captions, bytes and frames."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

    from curate.shards.tar import TarReader


@dataclass(frozen=True, kw_only=True, slots=True, repr=False, eq=False)
class Clip:
    """A clip of a dataset, as it is cut.

    Attributes:
        row: all that is known of it: its row of `Dataset.kept()`.
    """

    row: Mapping[str, Any]
    _reader: "TarReader" = field(compare=False)

    @property
    def id(self) -> str:
        return str(self.row["clip_id"])

    @property
    def kind(self) -> Literal["video", "image"]:
        return "image" if self.row["kind"] == "image" else "video"

    @property
    def split(self) -> Literal["train", "val"]:
        return "val" if self.row["split"] == "val" else "train"

    @property
    def ext(self) -> str:
        """Of its file: mp4 or png."""
        return str(self.row["ext"])

    @property
    def num_frames(self) -> int:
        return int(self.row["num_frames"])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, px."""
        return int(self.row["width"]), int(self.row["height"])

    @property
    def fps(self) -> float:
        """Frames per second, 0 of an image."""
        return float(self.row["fps"] or 0)

    @property
    def duration_s(self) -> float:
        return float(self.row["duration_s"] or 0)

    @property
    def captions(self) -> dict[str, str]:
        """Text by level, `short`, `dense`, `original` or `human`, of the levels that it has."""
        from curate.dataset.captions import texts_of

        return texts_of(self.row)

    @property
    def caption(self) -> str:
        """The most detailed of them: what a person wrote, else `dense`, `short`, `original`; "": none."""
        from curate.dataset.captions import MOST_DETAILED

        captions = self.captions
        return next((captions[level] for level in MOST_DETAILED if level in captions), "")

    def read(self) -> bytes:
        """The bytes of its MP4 or PNG, out of its shard.

        Raises:
            OSError: the shard is not there.
            ValueError: the shard holds other bytes than the index says.
        """
        from curate.shards.tar import read_member

        return read_member(self._reader, self.row)

    def frames(
        self, count: int | None = None, *, fps: float | None = None, size: tuple[int, int] | None = None
    ) -> "np.ndarray":
        """Its frames, decoded.

        Args:
            count: so many, at the middles of equal parts; None: all.
            fps: resampled to this rate first; None: its own.
            size: width and height, px, that frames are scaled to; None: its own.

        Returns:
            (T, H, W, 3) uint8, sRGB.

        Raises:
            MediaError: the bytes are damaged.
            ValueError: a count, rate or size that is not positive, or no number of frames.
        """
        from curate.media.decode import decode_clip
        from reelpack.running import running

        if size is not None and len(size) != 2:
            raise ValueError(f"size must be width and height, got {size}")
        with running("curate"):
            return decode_clip(self.read(), num_frames=count, fps=fps, size=size and (size[1], size[0])).rgb

    def __repr__(self) -> str:
        width, height = self.size
        length = f"{self.num_frames} frames, " if self.kind == "video" else ""
        caption = f": {self.caption}" if self.caption else ""
        return f"<{self.kind} {self.id}, {length}{width}x{height}{caption}>"

    def _repr_html_(self) -> str:
        from html import escape

        from reelpack.html import media_html

        return f"{media_html(self.read(), self.ext)}<br>{escape(self.caption or self.id)}"
