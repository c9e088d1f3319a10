"""No module is needed to import itself, not even inside a function or under TYPE_CHECKING."""

from graphlib import TopologicalSorter

import grimp


def test_no_import_circle():
    graph = grimp.build_graph("curate", "caption", "train", "pipelines")
    TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules}).prepare()
