"""The error that the Python API adds: what the command line says by exit code 1."""


class NothingKept(ValueError):
    """A step ran to its end and left nothing to go on with: no clip is kept, captioned or encoded."""
