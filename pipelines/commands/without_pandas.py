"""Commands that read tables and run no model start without pandas."""

import sys
from contextlib import ContextDecorator
from importlib.abc import MetaPathFinder


class WithoutPandas(MetaPathFinder, ContextDecorator):
    """A decorator that hides pandas from its function. To see whether a list is a Series, pyarrow imports pandas,
    which takes as long as the rest of such a command."""

    def __enter__(self) -> None:
        sys.meta_path.insert(0, self)

    def __exit__(self, *raised: object) -> None:
        sys.meta_path.remove(self)

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("not needed here", name=fullname)
