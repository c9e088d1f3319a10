"""Videos and pictures as notebooks show them."""

import base64

MEDIA = {"mp4": '<video controls loop muted src="{}"></video>', "png": '<img src="{}">'}


def media_html(data: bytes, ext: str) -> str:
    """An element of HTML that has the bytes of an MP4 or a PNG in it."""
    kind = "video" if ext == "mp4" else "image"
    return MEDIA[ext].format(f"data:{kind}/{ext};base64,{base64.b64encode(data).decode()}")
