"""ONNX models on onnxruntime."""

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from curate.device import pick_device
from curate.encoders import weights
from curate.encoders.fingerprint import path_digest

if TYPE_CHECKING:
    import onnxruntime


class OnnxModel:
    """Embedded ONNX weights, one input and one output. Cheap to construct and to pickle; `setup` loads the weights.

    Args:
        name: of the embedded weights.
        device: auto, cpu, cuda or cuda:<n>; a GPU needs the package onnxruntime-gpu.
    """

    def __init__(self, name: str, device: str = "auto") -> None:
        self._name = name
        self._device_name = device
        self._session: onnxruntime.InferenceSession | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the weights. Needs no `setup`.

        Raises:
            MissingWeights: they were not fetched.
        """
        return path_digest(weights.resolve(self._name))

    @property
    def on_gpu(self) -> bool:
        """Whether batches over many clips are faster. Known after `setup`."""
        assert self._session is not None, "setup() comes first"
        return self._session.get_providers()[0] != "CPUExecutionProvider"

    def setup(self) -> None:
        """Load the weights.

        Raises:
            MissingWeights: they were not fetched.
        """
        import onnxruntime

        if self._session is not None:
            return
        device = pick_device(self._device_name)
        providers: list[str | tuple[str, dict[str, int]]] = ["CPUExecutionProvider"]
        if device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # it is processes that clips are spread over
        options.log_severity_level = 3  # errors
        self._session = onnxruntime.InferenceSession(str(weights.resolve(self._name)), options, providers=providers)

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """The model's output for a batch.

        Raises:
            RuntimeError: onnxruntime cannot compute it; out of memory is one reason.
        """
        from onnxruntime.capi import onnxruntime_pybind11_state as errors

        assert self._session is not None, "setup() comes first"
        try:
            return self._session.run(None, {self._session.get_inputs()[0].name: batch})[0]
        except (errors.Fail, errors.RuntimeException, errors.InvalidArgument) as error:  # they share no base class
            raise RuntimeError(f"{self._name}: {error}") from error
