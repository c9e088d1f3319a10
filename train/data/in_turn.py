"""Models that work for the loader: on its threads, beside the training step."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from threading import Lock

import torch


class InTurn:
    """One call at a time, from any thread. Work on a GPU is queued apart from the training step, and waits for none of
    it. Made when the weights are loaded."""

    def __init__(self, device: torch.device) -> None:
        self._lock = Lock()
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)
            self._stream.wait_stream(torch.cuda.current_stream(device))  # which has loaded the weights

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock, nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            yield
