"""Every example of docs/python.md runs, in order, and gives what the page shows; the page names all that is public."""

import inspect
import re
from pathlib import Path

import pytest

import reelpack
from tests.support.videos import moving, write_video

PAGE = Path(__file__).parents[2] / "docs/python.md"
SHOWN = re.compile(r"(?P<code>.+?)  # → (?P<value>.+)")


def test_every_example_gives_what_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "videos/rabbit.mp4", moving(1, 2.5))
    write_video(tmp_path / "videos/bird.mp4", moving(2, 1.5))
    Path("videos/broken.mp4").write_bytes(b"no video")
    Path("titles.csv").write_text("path,title\nrabbit.mp4,A rabbit in a meadow\nbird.mp4,A bird on a branch\n")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.S)
    names: dict[str, object] = {"__name__": "examples"}
    differing: list[tuple[str, str, str]] = []

    def check(value: object, code: str, shown: str) -> None:
        if repr(value) != shown:
            differing.append((code, repr(value), shown))

    names["check"] = check
    for block in blocks:
        exec("\n".join(map(_checked, block.splitlines())), names)
    assert not differing
    assert sum(len(SHOWN.findall(block)) for block in blocks) > 25


def _checked(line: str) -> str:
    """An expression with its value behind it becomes a check."""
    found = SHOWN.fullmatch(line)
    if found is None:
        return line
    code, indent = found["code"].lstrip(), " " * (len(line) - len(line.lstrip()))
    return f"{indent}check(({code}), {code!r}, {found['value']!r})"


def test_the_page_names_all_that_is_public() -> None:
    text = PAGE.read_text()
    assert [name for name in reelpack.__all__ if f"`{name}" not in text] == []
    functions = [value for name in reelpack.__all__ if inspect.isfunction(value := getattr(reelpack, name))]
    assert len(functions) == 10
    for function in functions:
        names = [*inspect.signature(function).parameters]
        (row,) = re.findall(rf"\| `{function.__name__}\((.*?)\)`", text)
        assert [name for name in row.split(", ") if name != "*"] == names, function.__name__
