"""Errors as they are said to people: one message, with what to do."""

from pathlib import Path

from curate.storage.access import without_secrets
from pipelines.console.extras import explained


def message_of(error: BaseException, command: str) -> str:
    """What an error says.

    Args:
        error: a foreseen one.
        command: that failed, for the extra that a missing module is in.
    """
    if isinstance(error, ImportError):
        return without_secrets(explained(error, command))
    return without_secrets(file_for_folder(error) or str(error))


def file_for_folder(error: BaseException) -> str | None:
    """Of an error of a path below a file: which file, and what to do; None: it is another error."""
    if not isinstance(error, NotADirectoryError | FileExistsError) or not isinstance(error.filename, str):
        return None
    path = Path(error.filename)
    file = next((one for one in (path, *path.parents) if one.is_file()), None)
    if file is None:
        return None
    return f"{file} is a file, and a folder is expected there; choose another name, or move it away"
