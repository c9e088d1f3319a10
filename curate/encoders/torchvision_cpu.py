"""A remedy: PyPI's torchvision does not import with a torch built without CUDA.

The wheel is linked against CUDA. Beside a CPU-only torch its C++ operators do not load, and `import torchvision` ends
in `operator torchvision::nms does not exist`; open_clip, timm and much of transformers end with it. Everything but the
operators (transforms above all) is Python and works. See docs/decisions/torchvision_on_cpu.md.
"""

import importlib
import sys

_OPERATORS = ("nms", "qnms")
_library: object | None = None  # torch forgets a library's schemas when the last reference to it goes


def repair() -> None:
    """Make `import torchvision` work, and with it open_clip, timm, transformers, diffusers; call it before those.

    Does nothing where torchvision imports unaided or is not installed. Otherwise declares the operators that its
    Python part registers against, without an implementation: calling `torchvision.ops.nms` still fails.

    Raises:
        RuntimeError: torchvision is broken in another way.
    """
    global _library
    if "torchvision" in sys.modules:
        return
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError as error:
        if error.name != "torchvision":
            raise
    except RuntimeError as error:
        if _library is not None or "operator torchvision::nms does not exist" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        import torch

        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in _OPERATORS:
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _library = library
        importlib.import_module("torchvision")
