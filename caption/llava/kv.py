"""Keys and values of a batch, with room for the tokens to come: a step copies its own, not those before."""

from collections.abc import Sequence

import torch
from transformers.cache_utils import Cache, DynamicLayer

ROOM = 64
"""Tokens for which room is made at a time."""


class RoomyCache(Cache):
    """Keys and values of all layers, of rows that are padded on the left.

    Args:
        rows: keys and values of each row's first tokens, (layers, 2, heads, tokens, width).
    """

    def __init__(self, rows: Sequence[torch.Tensor]) -> None:
        layers, two, heads, _, width = rows[0].shape
        length = max(row.shape[3] for row in rows)
        held = rows[0].new_zeros(layers, two, len(rows), heads, length + ROOM, width)
        for at, row in enumerate(rows):
            held[:, :, at, :, length - row.shape[3] : length] = row
        super().__init__(layers=[_Layer(both, length) for both in held])


class _Layer(DynamicLayer):
    """`keys` and `values` are views of `both`, (2, rows, heads, tokens and room, width)."""

    def __init__(self, both: torch.Tensor, length: int) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = both.dtype, both.device, True
        self._show(both, length)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        both, length = self._both, self.get_seq_length()
        end = length + key_states.shape[2]
        if end > both.shape[3]:
            both = torch.nn.functional.pad(both, (0, 0, 0, end - both.shape[3] + ROOM))
        both[0, :, :, length:end], both[1, :, :, length:end] = key_states, value_states
        self._show(both, end)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self._show(self._both[:, indices], self.get_seq_length())

    def _show(self, both: torch.Tensor, length: int) -> None:
        self._both, self.keys, self.values = both, both[0, :, :, :length], both[1, :, :, :length]
