"""Which files of a folder may be media: by the endings of their names, and where these say nothing, by their first
bytes. Whether a file is media, only its decoder knows."""

from collections.abc import Callable
from pathlib import PurePosixPath

from curate.media.container import EBML_MAGIC, HEAD_BYTES, MP4_FIRST_BOXES, is_still_image

MEDIA_ENDINGS = frozenset({
    "3g2", "3gp", "3gpp", "amv", "apng", "asf", "avi", "avif", "avs2", "bmp", "dav", "divx", "dng", "dv", "f4v",
    "flv", "gif", "h264", "h265", "heic", "heif", "hevc", "insv", "ivf", "jfif", "jp2", "jpe", "jpeg", "jpg", "jxl",
    "lrv", "m1v", "m2t", "m2ts", "m2v", "m4v", "mj2", "mjpeg", "mjpg", "mkv", "mod", "mov", "mp4", "mpe", "mpeg",
    "mpg", "mpv", "mts", "mxf", "nut", "obu", "ogm", "ogv", "png", "ps", "qt", "rm", "rmvb", "tga", "tif", "tiff",
    "tod", "vob", "webm", "webp", "wmv", "y4m",
})  # fmt: skip
IMAGE_ENDINGS = frozenset({
    "apng", "avif", "bmp", "dng", "gif", "heic", "heif", "jfif", "jp2", "jpe", "jpeg", "jpg", "jxl", "png", "tga",
    "tif", "tiff", "webp",
})  # fmt: skip
"""Those of them that are mostly pictures."""
OTHER_ENDINGS = frozenset({
    "7z", "aac", "aae", "aiff", "ass", "bak", "bat", "bz2", "c", "cfg", "ckpt", "conf", "cpp", "crdownload", "css",
    "csv", "db", "doc", "docx", "edl", "eml", "exe", "feather", "flac", "gz", "h", "htm", "html", "info", "ini",
    "ipynb", "java", "js", "json", "jsonl", "key", "lnk", "lock", "log", "lst", "m3u", "m3u8", "m4a", "md", "md5",
    "mid", "mp3", "nfo", "npy", "npz", "odt", "oga", "ogg", "onnx", "opus", "otf", "parquet", "part", "pdf",
    "pickle", "pkl", "ppt", "pptx", "properties", "pt", "pth", "py", "pyc", "rar", "rst", "rtf", "safetensors",
    "sbv", "sfv", "sh", "sha1", "sha256", "sqlite", "srt", "ssa", "sub", "sup", "svg", "tar", "tgz", "tmp", "tmpl",
    "toml", "torrent", "tsv", "ttf", "txt", "url", "vtt", "wav", "wma", "xls", "xlsx", "xml", "xmp", "xsl", "xz",
    "yaml", "yml", "zip", "zst",
})  # fmt: skip
FIRST_BYTES = (
    b"RIFF", b"RIFX", b"OggS", b"FLV", b"0&\xb2u\x8ef\xcf\x11", b"\0\0\x01\xba", b"\0\0\x01\xb3", b"\0\0\0\x01",
    b"\0\0\x01\x67", b"GIF8", b"\x06\x0e\x2b\x34", b"\x1f\x07\0", b"DKIF", b"YUV4MPEG2", b".RMF", b"nut/multimedia",
    b"\0\0\0\x0cjP  ", EBML_MAGIC,
)  # fmt: skip
"""Of videos and of images that `is_still_image` does not know: AVI, Ogg, FLV, ASF, MPEG program and elementary
streams, GIF, MXF, DV, IVF, Y4M, RealMedia, NUT, JPEG 2000, Matroska."""
PACKET_BYTES, SYNC = 188, b"G"
"""Of MPEG transport streams; those of discs have a time of four bytes before each packet."""
NUM_BYTES = 2 * (PACKET_BYTES + 4)
"""Bytes of a file that are read."""


def may_be_media(name: str, read_head: Callable[[], bytes]) -> bool:
    """Whether a file that was found in a folder is to be tried.

    Args:
        name: its name or path.
        read_head: gives its first `NUM_BYTES`; called only where the name's ending is unknown.
    """
    ending = PurePosixPath(name).suffix.lower().removeprefix(".")
    if ending in MEDIA_ENDINGS:
        return True
    if ending in OTHER_ENDINGS:
        return False
    try:
        start = read_head()
    except OSError:
        return True  # why it cannot be read is for the scan to say
    head = start[:HEAD_BYTES]
    return is_still_image(head) or head[4:8] in MP4_FIRST_BOXES or head.startswith(FIRST_BYTES) or _is_transport(start)


def _is_transport(start: bytes) -> bool:
    return any(
        start[at : at + 1] == start[at + PACKET_BYTES + at : at + PACKET_BYTES + at + 1] == SYNC for at in (0, 4)
    )
