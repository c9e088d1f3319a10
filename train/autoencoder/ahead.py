"""Frames that are decoded in a thread beside the work on earlier ones."""

import queue
import threading
from collections.abc import Iterator

import numpy as np

MAX_AHEAD_BYTES = 32 << 20
"""Decoded frames that nobody has taken yet, of the clips that are begun together. One frame of each can exceed it."""
POLL_S = 0.1


def ahead(frames: Iterator[np.ndarray], num_clips: int = 1) -> Iterator[np.ndarray]:
    """The same frames, in order. Decoding begins now and pauses at the clip's part of `MAX_AHEAD_BYTES`: a long clip
    streams. `num_clips` are begun together.

    Raises:
        Exception: what `frames` raises, after the frames before it.
    """
    first = next(frames)
    waiting: queue.Queue[np.ndarray | Exception | None] = queue.Queue(
        max(1, MAX_AHEAD_BYTES // (num_clips * first.nbytes))
    )
    is_over = threading.Event()

    def put(value: np.ndarray | Exception | None) -> None:
        while not is_over.is_set():
            try:
                return waiting.put(value, timeout=POLL_S)
            except queue.Full:
                continue

    def decode() -> None:
        try:
            for frame in frames:
                put(frame)
                if is_over.is_set():
                    return
        except Exception as error:  # raised again by who takes the frames
            put(error)
        else:
            put(None)

    threading.Thread(target=decode, name="decode", daemon=True).start()

    def taken() -> Iterator[np.ndarray]:
        try:
            yield first
            while (value := waiting.get()) is not None:
                if isinstance(value, Exception):
                    raise value
                yield value
        finally:
            is_over.set()

    return taken()
