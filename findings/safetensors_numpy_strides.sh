#!/bin/sh
# Guess: `safetensors.numpy.save` either stores a NumPy view as it reads or refuses it, as `safetensors.torch.save`
# refuses a tensor that is not contiguous.
# Behaviour: it writes `nbytes` from the array's data pointer under the view's shape and ignores the strides. A
# transposed or Fortran-ordered array comes back with its elements permuted. No error and no warning, and the shape is
# right. Arrays of a channels-last PyTorch model that went through `.numpy()` are such views. Safe:
# `numpy.asarray(x, order="C")` first (`numpy.ascontiguousarray` also turns a 0-d array into one of shape (1,)).
# Seen with safetensors 0.8.0, numpy 2.4.6.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q safetensors==0.8.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import numpy as np
import safetensors
from safetensors.numpy import load, save

print("safetensors", safetensors.__version__, "numpy", np.__version__)
cube = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
views = {"contiguous": cube, "transposed": cube.transpose(2, 0, 1), "fortran": np.asfortranarray(cube)}
equal = {}
for name, view in views.items():
    back = load(save({"x": view}))["x"]
    equal[name] = bool(np.array_equal(back, view))
    print(f"{name}: stored {view[0].tolist()}, read {back[0].tolist()}, shape {back.shape}, equal {equal[name]}")
repaired = all(np.array_equal(load(save({"x": np.asarray(v, order="C")}))["x"], v) for v in views.values())
print("after np.asarray(order='C'):", repaired)
assert equal == {"contiguous": True, "transposed": False, "fortran": False} and repaired, "the behaviour has changed"
END
