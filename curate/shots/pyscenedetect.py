"""PySceneDetect's detectors, imported without its package's `__init__`, which runs `ffmpeg` to see if it is installed.

That child process asks for the terminal, and the system stops a background worker for it (PySceneDetect 0.7.2,
`scenedetect.output.video`).
"""

import importlib
import importlib.util
import sys
import threading
from types import ModuleType

PACKAGE = "scenedetect"
_loading = threading.Lock()


def load(name: str) -> ModuleType:
    """The module `scenedetect.<name>`, such as `detectors` or `common`, without the `__init__` of the package.

    Raises:
        ImportError: PySceneDetect is not installed.
    """
    with _loading:
        if PACKAGE in sys.modules:
            return importlib.import_module(f"{PACKAGE}.{name}")
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or spec.submodule_search_locations is None:
            raise ModuleNotFoundError(f"No module named '{PACKAGE}'", name=PACKAGE)
        bare = ModuleType(PACKAGE)
        bare.__path__ = list(spec.submodule_search_locations)
        sys.modules[PACKAGE] = bare
        try:
            return importlib.import_module(f"{PACKAGE}.{name}")
        finally:
            del sys.modules[PACKAGE]  # a later import of the package gets all of it
