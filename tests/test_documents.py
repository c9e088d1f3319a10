"""Links of the documents lead somewhere, the site lists every page, and the notebook is as it was run."""

import ast
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import reelpack
from pipelines.settings import resolved_config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|\b(?:src|href)=\"([^\"]+)\"")


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^(```+|~~~+).*?^\1[^\n]*$", "", page.read_text(), flags=re.S | re.M)


def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub and the site name them."""
    found: list[str] = []
    for title in re.findall(r"^#{1,6} +(.+?) *#*$", prose(page), flags=re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", title)
        name = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found.append(f"{name}-{found.count(name)}" if name in found else name)
    return {*found, *re.findall(r"<a (?:id|name)=\"([^\"]+)\"", page.read_text())}


def broken(page: Path) -> Iterator[str]:
    for target in (one or other for one, other in LINK.findall(re.sub(r"`[^`\n]*`", "", prose(page)))):
        if re.match(r"[a-z+]+:", target):
            continue
        name, _, anchor = unquote(target).partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or not file.is_relative_to(ROOT):
            yield f"{page.relative_to(ROOT)}: {target}: no such file"
        elif anchor and file.suffix == ".md" and anchor not in anchors(file):
            yield f"{page.relative_to(ROOT)}: {target}: no such heading"


def test_every_link_leads_to_a_file_and_a_heading() -> None:
    assert sum(len(LINK.findall(page.read_text())) for page in PAGES) > 200
    assert [problem for page in PAGES for problem in broken(page)] == []


def test_the_site_lists_every_page_once() -> None:
    pages = sorted(str(page.relative_to(ROOT / "docs")) for page in PAGES if page.is_relative_to(ROOT / "docs"))
    listed = re.findall(r"^ +- ([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.M)
    assert sorted(listed) == pages


def test_files_beside_the_pages_are_small() -> None:
    files = [path for path in (ROOT / "docs").rglob("*") if path.suffix not in (".md", ".py", "")]
    assert len(files) > 3 and [path.name for path in files if path.stat().st_size > 200_000] == []


def test_the_notebook_was_run_whole_and_its_calls_fit() -> None:
    """`python -m benchmarks.quickstart` runs it; here its calls and settings are held against what there is."""
    cells = json.loads((ROOT / "docs/quickstart.ipynb").read_text())["cells"]
    codes = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in codes] == [*range(1, len(codes) + 1)]
    assert [one for cell in codes for one in cell["outputs"] if one["output_type"] == "error"] == []
    calls = [node for cell in codes for node in ast.walk(ast.parse("".join(cell["source"]))) if _is_ours(node)]
    assert {call.func.attr for call in calls} >= {"curate", "select", "caption", "encode", "train", "sample"}
    for call in calls:
        given = {word.arg: word.value for word in call.keywords}
        inspect.signature(getattr(reelpack, call.func.attr)).bind(*call.args, **given)
        if "settings" in given:
            resolved_config(None, ast.literal_eval(given["settings"]))


def _is_ours(node: ast.AST) -> bool:
    is_method = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    return is_method and isinstance(node.func.value, ast.Name) and node.func.value.id == "reelpack"
