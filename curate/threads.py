"""What threads must not do: import a native module for the first time.

Two threads that import PyAV at the same time see half of it; OpenCV takes itself out of `sys.modules` while it is
imported. Whoever starts threads that decode imports the decoders before.
"""

from contextlib import suppress
from importlib import import_module

DECODERS = ("av", "cv2", "PIL.Image", "PIL.ImageCms", "PIL.JpegImagePlugin", "PIL.PngImagePlugin")


def import_decoders() -> None:
    """Of those that are installed; whoever needs another one says so."""
    for name in DECODERS:
        with suppress(ModuleNotFoundError):
            import_module(name)
