"""Batches that fit into memory, found by trying."""

from collections.abc import Callable, Sequence

from caption.backends.base import CaptionRequest, CaptionResult, FailedRequest
from curate.schema import FailureKind

Generate = Callable[[Sequence[CaptionRequest]], list[CaptionResult]]


class Batches:
    """Halves a batch that does not fit, and the next ones begin with the size that did.

    Attributes:
        max_rows: Requests of one batch at most; None until a batch did not fit.
    """

    def __init__(self) -> None:
        self.max_rows: int | None = None

    def run(self, requests: Sequence[CaptionRequest], generate: Generate) -> list[CaptionResult | FailedRequest]:
        """One outcome per request, in order. A request that does not fit alone is a failed one."""
        outcomes: list[CaptionResult | FailedRequest] = []
        while len(outcomes) < len(requests):
            rest = requests[len(outcomes) :]
            outcomes += self._first(rest[: self.max_rows or len(rest)], generate)
        return outcomes

    def _first(
        self, requests: Sequence[CaptionRequest], generate: Generate
    ) -> Sequence[CaptionResult | FailedRequest]:
        """Outcomes of as many of the first requests as fit."""
        from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

        try:
            return generate(requests)
        except (RuntimeError, MemoryError) as error:  # torch's OutOfMemoryError is a RuntimeError
            if not isinstance(error, MemoryError) and not should_reduce_batch_size(error):
                raise
            reason = str(error).partition("\n")[0]
        clear_device_cache(garbage_collection=True)  # after the handler: the error holds the batch's tensors
        if len(requests) > 1:
            self.max_rows = len(requests) // 2
            return self._first(requests[: self.max_rows], generate)
        frames = " x ".join(map(str, requests[0].frames.shape[:3]))
        detail = f"out of memory with one request of {frames} pixels; lower caption.frames or choose a dtype: {reason}"
        return [FailedRequest(kind=FailureKind.MODEL, detail=detail)]
