"""For all tests."""

import ctypes
import ctypes.util
import gc
import os
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """No test sees what a power cut would lose: `os.fsync` does nothing, and tables of many parts cost no time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadfile`, with all files that share the private Ray on one worker: one Ray runs, not one per worker."""
    from xdist.scheduler import LoadFileScheduling

    class OneRay(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = super()._split_scope(nodeid)
            return "private Ray" if "private_ray" in (config.rootpath / path).read_text() else path

    return OneRay(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(scope="module", autouse=True)
def memory_is_given_back() -> Iterator[None]:
    """A worker runs many modules; what the models of one took is free for the next, and for the other workers."""
    yield
    gc.collect()
    if (libc := ctypes.util.find_library("c")) and hasattr(library := ctypes.CDLL(libc), "malloc_trim"):
        library.malloc_trim(0)
