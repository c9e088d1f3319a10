"""A chosen film in the report: its frames with cuts and scores, and the frames at each transition."""

import io
from html import escape

from curate.media.fetch import local_copy
from curate.report.cards import name_of
from curate.report.filmstrip import JPEG_QUALITY, data_uri
from curate.scan import ScanConfig
from curate.schema import MediaError
from curate.shot_list import find_shots
from curate.shots.strip import MAX_CLOSE_UPS, draw_lines


def film(uri: str, config: ScanConfig) -> str:
    """The section: scans the film again, by the dataset's settings."""
    try:
        with local_copy(uri) as path:
            found = find_shots(path, uri, config)
            lines = draw_lines(found, path)
    except MediaError as error:
        return f'<p class="muted">{name_of(uri)}: {error.kind} ({escape(error.detail)})</p>'
    pictures: list[str] = []
    for line in lines:
        buffer = io.BytesIO()
        line.save(buffer, "JPEG", quality=JPEG_QUALITY)
        pictures.append(f'<img class="film" alt="" src="{data_uri("image/jpeg", buffer.getvalue())}">')
    left_out = len(found.transitions) - MAX_CLOSE_UPS
    more = f" The frames at {left_out:,} more transitions are left out." if left_out > 0 else ""
    note = (
        f"{escape(uri)}: {len(found.clips):,} clips, {len(found.transitions):,} transitions. Red is a hard cut, "
        f"frames on amber are in no clip; the curves are the scores of the detector.{more}"
    )
    return f'<p class="muted">{note}</p>{"".join(pictures)}'
