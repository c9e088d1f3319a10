"""CONTRIBUTING.md prints what the contract tests run: the members, and the lines that add them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECTIONS = re.split(r"^## ", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE)[1:]
MEMBERS = [path.read_text() for path in sorted((ROOT / "tests/support/members").glob("*.py"))]


@pytest.mark.parametrize("section", ["A scorer", "A signal", "A shot detector", "An encoder", "An export layout"])
def test_the_member_that_a_section_prints_is_the_one_that_its_contract_test_adds(section: str) -> None:
    (text,) = [one for one in SECTIONS if one.partition("\n")[0] == section]
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert code in MEMBERS, f"{section}: tests/support/members has no file with this text"


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.partition("\n")[0])
def test_the_diffs_fit_a_file_as_it_is(section: str) -> None:
    folders = ("curate", "caption", "train", "pipelines")
    texts = [_bare(path.read_text()) for folder in folders for path in (ROOT / folder).rglob("*.py")]
    for diff in re.findall(r"```diff\n(.*?)```", section, flags=re.DOTALL):
        context = _bare("\n".join(line[1:] for line in diff.splitlines() if not line.startswith("+")))
        assert any(context in text for text in texts), context


def test_the_contents_list_every_family_and_files_that_exist() -> None:
    contents = (ROOT / "CONTRIBUTING.md").read_text().partition("\n## ")[0]
    families = [title for title in (one.partition("\n")[0] for one in SECTIONS) if title.startswith(("A ", "An "))]
    assert re.findall(r"\]\(#([\w-]+)\)", contents) == [title.lower().replace(" ", "-") for title in families]
    for path in re.findall(r"`([^`]+)`", contents):
        assert (ROOT / path).is_file(), path


def _bare(code: str) -> str:
    """Without comments."""
    return "\n".join(line.partition("  #")[0] for line in code.splitlines())
