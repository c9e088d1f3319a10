"""For all tests."""

import ctypes
import gc
import os
from collections import Counter
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
    """`--dist loadfile`, with all files that share the private Ray on one worker: one Ray runs, not one per worker.
    Files are begun in the order of `pytest_collection_modifyitems`."""
    from xdist.scheduler import LoadFileScheduling

    class OneRay(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = super()._split_scope(nodeid)
            return "private Ray" if "private_ray" in (config.rootpath / path).read_text() else path

    if config.getvalue("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False
    return OneRay(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """For the workers of xdist: files with slow tests come first, then those with most tests. No worker is left with a
    long file while the others have ended."""
    if hasattr(config, "workerinput"):
        num_tests = Counter(item.path for item in items)
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: (item.path not in slow, -num_tests[item.path]))


@pytest.fixture(scope="module", autouse=True)
def memory_is_given_back() -> Iterator[None]:
    """A worker runs many modules; what the models of one took is free for the next, and for the other workers. What
    stays, mostly modules, is looked at once: a collection of all of it takes 0.3 s."""
    yield
    gc.collect()
    gc.freeze()
    if hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


def pytest_collection_finish() -> None:
    gc.freeze()  # what the test files have imported
