import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.dedup.components import join, roots, union

Pairs = list[tuple[int, int]]


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1)))
def test_batches_join_what_all_pairs_at_once_would(batches: list[Pairs]) -> None:
    first = np.arange(31)
    for batch in batches:
        join(first, *np.array(batch).T)
    names = [f"{row:02d}" for row in range(31)]
    wanted = union([(names[a], names[b]) for batch in batches for a, b in batch])
    assert [names[row] for row in roots(first, np.arange(31))] == [wanted.get(name, name) for name in names]
