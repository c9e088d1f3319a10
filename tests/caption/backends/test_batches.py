import numpy as np
import pytest
import torch

from caption.backends.base import CaptionRequest, CaptionResult, FailedRequest
from caption.backends.batches import Batches
from curate.schema import FailureKind


class Memory:
    """Generates texts for batches of so many frames, and raises what torch raises for more."""

    def __init__(self, num_frames: int, error: Exception) -> None:
        self.num_frames, self.error, self.sizes = num_frames, error, list[int]()

    def __call__(self, requests: list[CaptionRequest]) -> list[CaptionResult]:
        self.sizes.append(len(requests))
        if len(requests) * max(len(request.frames) for request in requests) > self.num_frames:  # with the padding
            raise self.error
        return [
            CaptionResult(text=request.prompt, finish_reason="stop", num_prompt_tokens=1, num_output_tokens=1)
            for request in requests
        ]


def requests(*num_frames: int) -> list[CaptionRequest]:
    return [
        CaptionRequest(frames=np.zeros((num, 2, 2, 3), np.uint8), prompt=f"{row}", max_tokens=1)
        for row, num in enumerate(num_frames)
    ]


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: 12"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_what_does_not_fit_is_halved_and_keeps_its_order(error: Exception) -> None:
    memory, asked = Memory(4, error), requests(*[1] * 10)
    outcomes = Batches().run(asked, memory)
    assert [outcome.text for outcome in outcomes] == [request.prompt for request in asked]  # type: ignore[union-attr]
    assert memory.sizes == [10, 5, 2, 2, 2, 2, 2]


def test_the_next_batches_begin_with_the_size_that_fits() -> None:
    memory, batches = Memory(4, OUT_OF_MEMORY[0]), Batches()
    batches.run(requests(*[1] * 8), memory)
    memory.sizes.clear()
    batches.run(requests(*[1] * 8), memory)
    assert memory.sizes == [4, 4]


def test_a_request_that_does_not_fit_alone_says_what_to_lower() -> None:
    outcomes = Batches().run(requests(1, 1, 9), Memory(4, OUT_OF_MEMORY[0]))
    assert [isinstance(outcome, FailedRequest) for outcome in outcomes] == [False, False, True]
    assert isinstance(outcomes[2], FailedRequest) and outcomes[2].kind == FailureKind.MODEL
    assert "9 x 2 x 2" in outcomes[2].detail and "caption.frames" in outcomes[2].detail


def test_other_errors_are_not_about_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        Batches().run(requests(1, 1), Memory(0, RuntimeError("the shapes differ")))
