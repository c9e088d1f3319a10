"""What is stored as safetensors comes back, whatever its strides."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load
from safetensors.torch import load as load_tensors
from safetensors.torch import load_file

from curate.storage.tensors import arrays_to_bytes, tensors_to_bytes, write_tensors

CUBE = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
ARRAYS = {
    "contiguous": CUBE,
    "transposed": CUBE.transpose(2, 0, 1),
    "fortran": np.asfortranarray(CUBE),
    "channels_last": np.ascontiguousarray(CUBE.transpose(1, 2, 0)).transpose(2, 0, 1),
    "strided": CUBE[:, :, ::2],
    "reversed": CUBE[::-1],
    "broadcast": np.broadcast_to(CUBE[:1], CUBE.shape),
    "big_endian": CUBE.astype(">f4"),
    "half": CUBE.transpose(2, 0, 1).astype(np.float16),
    "scalar": np.array(3.0),
    "empty": CUBE[:0],
}


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_of_any_strides_comes_back(name: str) -> None:
    expected = ARRAYS[name]
    found = load(arrays_to_bytes({"x": expected}))["x"]
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["contiguous", "transposed", "channels_last", "strided", "half", "scalar"])
def test_a_tensor_of_any_strides_comes_back(name: str, tmp_path: Path) -> None:
    expected = torch.from_numpy(ARRAYS[name]).requires_grad_()
    write_tensors({"x": expected}, tmp_path / "x.safetensors", metadata={"format": "pt"})
    for found in (load_tensors(tensors_to_bytes({"x": expected})), load_file(tmp_path / "x.safetensors")):
        assert torch.equal(found["x"], expected)


def test_nothing_else_writes_safetensors() -> None:
    root = Path(__file__).parents[3]
    writes = re.compile(r"from safetensors[\w.]* import [^\n]*\b(save|serialize)|safetensors\.\w+\.save")
    files = [
        path
        for folder in ("curate", "caption", "train", "pipelines", "benchmarks")
        for path in (root / folder).rglob("*.py")
    ]
    found = [str(path.relative_to(root)) for path in files if writes.search(path.read_text())]
    assert found == ["curate/storage/tensors.py"]


def test_a_written_file_is_readable_by_whom_any_new_file_is(tmp_path: Path) -> None:
    write_tensors({"x": torch.zeros(2)}, tmp_path / "x.safetensors")
    (tmp_path / "other").touch()
    assert (tmp_path / "x.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode
