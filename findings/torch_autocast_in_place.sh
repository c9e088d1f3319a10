#!/bin/sh
# Guess: under torch.autocast a layer computes with the values that its weights have when it is called.
# Behaviour: autocast keeps the low-precision copy of each float32 leaf that requires gradients until the outermost
# context ends, by the tensor's identity. `weight.copy_(other)` under no_grad, as when averaged weights (EMA) change
# places with a model's own, is not noticed: the layer keeps the old values, on CPU and on CUDA, and a layer
# that was not called before the change takes the new ones, so a model can be a mixture of both. No warning; gradients
# may be disabled or not. Safe: a context per evaluation, or `torch.clear_autocast_cache()` after the change.
# Seen with torch 2.13.0 (CPU).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'END'
import torch

print("torch", torch.__version__)
x = torch.ones(1, 3)


def outputs(grad, clear):
    layer = torch.nn.Linear(3, 1, bias=False)
    torch.nn.init.ones_(layer.weight)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.set_grad_enabled(grad):
        before = layer(x).item()
        with torch.no_grad():
            layer.weight.copy_(torch.full((1, 3), 2.0))
        if clear:
            torch.clear_autocast_cache()
        after = layer(x).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return before, after, layer(x).item()


seen = {(grad, clear): outputs(grad, clear) for grad in (True, False) for clear in (False, True)}
for (grad, clear), (before, after, outside) in seen.items():
    print(f"gradients {grad}, cache cleared {clear}: before {before}, after the change {after}, in a new context {outside}")
assert all(row[1:] == ((6.0, 6.0) if clear else (3.0, 6.0)) for (_, clear), row in seen.items()), "it has changed"
END
