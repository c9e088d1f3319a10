"""No module is needed to import itself, not even inside a function or under TYPE_CHECKING."""

import re
from graphlib import TopologicalSorter
from pathlib import Path

import grimp


def test_no_import_circle():
    graph = grimp.build_graph("curate", "caption", "train", "pipelines", "reelpack")
    TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules}).prepare()


def test_tests_import_nothing_from_benchmarks():
    """What both need lies in tests/support."""
    found = [
        f"{path.name}: {line}"
        for path in Path(__file__).parent.rglob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r'^\s*(from|import)\sbenchmarks\b|"-m",\s"benchmarks', line)
    ]
    assert not found
