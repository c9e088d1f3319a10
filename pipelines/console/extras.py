"""Which extra of reelpack brings a module that is not installed, from the package's own metadata."""

import importlib.metadata
import importlib.util
import re

DISTRIBUTIONS = {"cv2": "opencv-python-headless", "PIL": "pillow", "open_clip": "open-clip-torch"}
"""Modules whose name is not that of their distribution."""

_REQUIRED = re.compile(r'(?P<name>[\w.-]+).*;.*extra == "(?P<extra>[\w-]+)"')


def explained(error: ImportError, command: str = "") -> str:
    """What an import failed on, and what to do: the extra that brings a missing module, that of the command first.

    A module that is installed and does not import, and a name that it lacks, are no missing extra.
    """
    module = _missing(error)
    if module is None or importlib.util.find_spec(module) is not None:
        return f"{error}; the installed package is broken or of another version; REELPACK_DEBUG=1 shows where"
    distribution = DISTRIBUTIONS.get(module, module)
    extras = extras_with(distribution)
    if not extras:
        return f"{error}; no extra of reelpack brings it: pip install {distribution}"
    extra = command if command in extras else extras[0]
    return f"{error}; pip install 'reelpack[{extra}]'"


def extras_with(distribution: str) -> list[str]:
    """Names of the extras that bring a distribution, in the order of pyproject.toml."""
    try:
        required = importlib.metadata.requires("reelpack") or []
    except importlib.metadata.PackageNotFoundError:  # run from its sources
        return []
    found = (_REQUIRED.match(text) for text in required)
    return [one["extra"] for one in found if one and _plain(one["name"]) == _plain(distribution)]


def _missing(error: BaseException | None) -> str | None:
    """The missing module of this error or of its cause; None: another kind of failure."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            return error.name.partition(".")[0]
        error = error.__cause__
    return None


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
