"""Pictures and clips that a browser sends: kept by the hash of their bytes, under names that no client chooses."""

import hashlib
import re
from pathlib import Path

from curate.media.decode import clip_frames, clip_times
from curate.schema import MediaError
from curate.storage.publish import publish

MAX_BYTES = 64 * 2**20
MAX_PIXELS = 2**25
"""Of one frame."""
NAME = re.compile("[0-9a-f]{32}")


class Uploads:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, data: bytes) -> dict[str, str | int]:
        """Keep a file that can be decoded.

        Returns:
            Its name, and what it is.

        Raises:
            ValueError: it is no picture or video.
        """
        try:
            times = clip_times(data, max_pixels=MAX_PIXELS)
            frame = next(clip_frames(data, times, times.at(None)[:1], max_pixels=MAX_PIXELS))
        except MediaError as error:
            detail = error.detail.replace("<none>", "the file")
            raise ValueError(f"the file cannot be read ({detail}); expected a picture or a video") from error
        name = hashlib.sha256(data).hexdigest()[:32]
        if not (self.folder / name).exists():
            with publish(str(self.folder / name)) as file:
                file.write(data)
        height, width = frame.shape[:2]
        return {"name": name, "width": width, "height": height, "num_frames": len(times.pts)}

    def file(self, name: str) -> Path:
        """Raises ValueError where there is none of that name."""
        path = self.folder / name
        if not NAME.fullmatch(name) or not path.is_file():
            raise ValueError("the picture or clip is not on the server any more; choose it again")
        return path

    def for_page(self, text: str) -> str:
        """A message without files of the server, which the browser knows by other names, and without the dashes of
        options."""
        return re.sub(rf"=?\s?{re.escape(str(self.folder))}/[0-9a-f]{{32}}|(?<!\S)--(?=[a-z])", "", text)
