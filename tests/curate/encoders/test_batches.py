import numpy as np
import pytest
import torch

from curate.encoders.batches import in_batches


def test_batches_that_do_not_fit_are_halved_and_nothing_is_lost_or_done_twice() -> None:
    done: list[list[int]] = []

    def double(batch: np.ndarray) -> np.ndarray:
        if len(batch) > 3:
            raise torch.OutOfMemoryError("full")
        done.append(batch.tolist())
        return batch * 2

    items = np.arange(11)
    np.testing.assert_array_equal(in_batches(double, items, 8), items * 2)
    assert [item for batch in done for item in batch] == items.tolist()
    assert max(map(len, done)) == 2


def test_one_item_that_does_not_fit_is_an_error() -> None:
    def full(batch: np.ndarray) -> np.ndarray:
        raise torch.OutOfMemoryError("full")

    with pytest.raises(torch.OutOfMemoryError):
        in_batches(full, np.arange(4), 4)
