"""The examples of CONTRIBUTING.md, as code: new files, and the diff of a family's union."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(python|diff) (\S+\.py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def family_with_example(heading: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of the union after the section's diff, with the section's new files in `sys.modules`.

    Args:
        heading: of the section, without `## `.
        monkeypatch: takes the new modules out again.
    """
    changed = None
    for kind, path, content in _blocks(heading):
        if kind == "python":
            assert not (ROOT / path).exists(), f"the example {path} is a member by now: take another one"
            name = _name(path)
            monkeypatch.setitem(sys.modules, name, _module(name, path, content))
        else:
            changed = _module(_name(path), path, _patched((ROOT / path).read_text(), content, path))
    assert changed is not None, f"no diff below {heading!r}"
    return changed


def _blocks(heading: str) -> Iterator[tuple[str, str, str]]:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    _, _, section = page.partition(f"## {heading}\n")
    for match in BLOCK.finditer(section.partition("\n## ")[0]):
        yield match[1], match[2], match[3]


def _patched(source: str, diff: str, path: str) -> str:
    """The source after a diff without line numbers: hunks are divided by `@@`."""
    for hunk in re.split(r"^@@.*\n", diff, flags=re.MULTILINE):
        lines = hunk.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] != "+")
        after = "".join(line[1:] for line in lines if line[0] != "-")
        assert source.count(before) == 1, f"{path} has not these lines (once):\n{before}"
        source = source.replace(before, after)
    return source


def _name(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".")


def _module(name: str, path: str, source: str) -> ModuleType:
    module = ModuleType(name)
    exec(compile(source, path, "exec"), module.__dict__)
    return module
