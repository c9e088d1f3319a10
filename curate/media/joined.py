"""MP4 files that were joined byte by byte (`cat a.mp4 b.mp4`): readers play the first one and say nothing.

Of Matroska, AVI and streams that are joined so, the whole is read.
"""

import os

from curate.media.boxes import mp4_boxes
from curate.media.container import MP4_FIRST_BOXES


def second_file(path: str) -> int | None:
    """The byte at which a second file begins in an MP4; None where there is none, and for other kinds of files."""
    has_index, begin = False, None
    with open(path, "rb") as file:
        if file.read(8)[4:] not in MP4_FIRST_BOXES:
            return None
        for box in mp4_boxes(file, 0, os.path.getsize(path)):
            if box.name == b"ftyp" and has_index:
                begin = box.offset
            if box.name == b"moov":
                if begin is not None:
                    return begin
                has_index = True
    return None
