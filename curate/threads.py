"""Imports of native modules before threads start.

Two threads that import PyAV at the same time see a half-initialised module. OpenCV removes itself from `sys.modules`
while it is imported. Code that starts decoding threads therefore imports the decoders first.
"""

from contextlib import suppress
from importlib import import_module

DECODERS = ("av", "cv2", "PIL.Image", "PIL.ImageCms", "PIL.JpegImagePlugin", "PIL.PngImagePlugin")


def import_decoders() -> None:
    """Import the decoders that are installed. A missing one is reported where it is used."""
    for name in DECODERS:
        with suppress(ModuleNotFoundError):
            import_module(name)
