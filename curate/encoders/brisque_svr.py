"""BRISQUE's regression, from the packaged files (libsvm's text, a pickle of ranges) to arrays.

The pickle is read as a list of numbers: nothing in it is executed.
"""

import pickletools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curate.storage.tensors import arrays_to_bytes

NUM_FEATURES = 36
SVM, RANGES, ARRAYS = "svm.txt", "normalize.pickle", "brisque.safetensors"


@dataclass(frozen=True, kw_only=True, eq=False)
class SupportVectorRegression:
    """ε-SVR with a radial kernel: y = Σ cᵢ exp(-γ |x - vᵢ|²) - ρ, on features scaled from [low, high] to [-1, 1]."""

    vectors: np.ndarray  # (n, 36)
    coefficients: np.ndarray  # (n,)
    low: np.ndarray  # (36,)
    high: np.ndarray  # (36,)
    gamma: float
    rho: float

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """(N, 36) to (N,)."""
        scaled = 2 * (features - self.low) / (self.high - self.low) - 1
        squared = np.square(scaled[:, None] - self.vectors).sum(-1)  # (N, n)
        return np.exp(-self.gamma * squared) @ self.coefficients - self.rho


def convert_svr(folder: Path) -> None:
    """Replace the packaged files in `folder` by one of arrays; equal input, equal bytes."""
    head, _, body = (folder / SVM).read_text().partition("SV\n")
    settings = dict(line.split(" ", 1) for line in head.splitlines())
    assert (settings["svm_type"], settings["kernel_type"]) == ("epsilon_svr", "rbf"), settings
    rows = [line.split() for line in body.splitlines()]
    vectors = np.zeros((len(rows), NUM_FEATURES))  # the text leaves out zeros
    for row, (_, *pairs) in enumerate(rows):
        for pair in pairs:
            index, value = pair.split(":")
            vectors[row, int(index) - 1] = float(value)
    opcodes = pickletools.genops((folder / RANGES).read_bytes())
    low, high = np.array([value for opcode, value, _ in opcodes if opcode.name == "BINFLOAT"]).reshape(2, NUM_FEATURES)
    arrays = {
        "vectors": vectors,
        "coefficients": np.array([float(row[0]) for row in rows]),
        "low": low.copy(),
        "high": high.copy(),
        "gamma_rho": np.array([float(settings["gamma"]), float(settings["rho"])]),
    }
    (folder / ARRAYS).write_bytes(arrays_to_bytes(arrays))
    for name in (SVM, RANGES):
        (folder / name).unlink()


def load_svr(path: Path) -> SupportVectorRegression:
    """The arrays at `path`, see `weights.resolve`."""
    from safetensors.numpy import load_file

    arrays = load_file(path)
    gamma, rho = arrays.pop("gamma_rho").tolist()
    return SupportVectorRegression(**arrays, gamma=gamma, rho=rho)
