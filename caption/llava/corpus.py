"""What the embedded captioner learns from: captions written for shots of a video, and a set of captioned stamps.

The video is that of curate/encoders/training_video.py. The stamps are those of
Tux Paint (Debian package tuxpaint-stamps-default, GPL-2): images with one descriptive line each.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from curate.encoders.training_video import EXCERPTS, NUM_FRAMES, is_held_out

CAPTIONS = Path(__file__).parent / "data" / "bbb_captions.jsonl"
SUBJECTS = Path(__file__).parent / "data" / "excerpt_subjects.jsonl"

MAX_STAMP_WORDS = 12
STAMPS_REMEDY = (
    "get them with `apt-get download tuxpaint-stamps-default` and `dpkg -x tuxpaint-stamps-default_*.deb FOLDER`"
)
SKIPPED_STAMPS = frozenset({"symbols"})
"""Folders of letters and signs, which are no images of things."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shot:
    """Frames [start_frame, end_frame) of the video and the captions written for them; `short` in several wordings."""

    start_frame: int
    end_frame: int
    short: tuple[str, ...]
    dense: str

    @property
    def has_sides(self) -> bool:
        """Whether the captions name a side: they are false for a mirrored copy."""
        return bool(re.search(r"\b(left|right)\b", " ".join((*self.short, self.dense)), re.IGNORECASE))


@dataclass(frozen=True, kw_only=True, slots=True)
class Stamp:
    """An image with an alpha channel, and its line."""

    path: Path
    caption: str


def load_shots(path: Path = CAPTIONS) -> list[Shot]:
    """Captioned shots of the video.

    Raises:
        ValueError: a shot overlaps an excerpt, ends after the frames that can be used, or lacks a caption.
    """
    shots = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        row = json.loads(line)
        shot = Shot(
            start_frame=row["start_frame"],
            end_frame=row["end_frame"],
            short=(row["short"], *row["short_variants"]),
            dense=row["dense"],
        )
        if not (all(shot.short) and shot.dense and 0 <= shot.start_frame < shot.end_frame):
            raise ValueError(f"{path}:{number}: expected a frame range and two captions, got {row}")
        if is_held_out(shot.start_frame, shot.end_frame):
            raise ValueError(
                f"{path}:{number}: frames [{shot.start_frame}, {shot.end_frame}) are held out: "
                f"excerpts {EXCERPTS}, and everything from frame {NUM_FRAMES} on"
            )
        shots.append(shot)
    return shots


def load_stamps(folder: Path) -> list[Stamp]:
    """Stamps of the unpacked package whose English line is a short phrase, in the order of their names.

    Raises:
        ValueError: there is none below `folder`.
    """
    stamps = []
    for text in sorted(folder.rglob("*.txt")):
        image = text.with_suffix(".png")
        lines = text.read_text(errors="replace").splitlines()
        caption = re.split(r"(?<=[.!?])\s", lines[0].strip())[0] if lines else ""
        usable = caption and len(caption.split()) <= MAX_STAMP_WORDS and not SKIPPED_STAMPS & set(text.parts)
        if usable and image.is_file():
            stamps.append(Stamp(path=image, caption=caption if caption[-1] in ".!?" else f"{caption}."))
    if not stamps:
        raise ValueError(f"{folder}: no stamps below it; {STAMPS_REMEDY}")
    return stamps
