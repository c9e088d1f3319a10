"""Readers of frames on this machine; a test of one that does not load here is skipped."""

from functools import cache

import pytest

from curate.media.readers.config import MediaConfig
from curate.media.readers.frames import FrameReader

MEMBERS = ("decord", "torchcodec")


def reader(member: str) -> FrameReader:
    """The member, loaded."""
    if missing := _missing(member):
        pytest.skip(missing)
    return MediaConfig.model_validate({"reader": member}).build()


@cache
def _missing(member: str) -> str:
    try:
        MediaConfig.model_validate({"reader": member}).build().setup()
    except (ModuleNotFoundError, ValueError) as error:
        return str(error)
    return ""
