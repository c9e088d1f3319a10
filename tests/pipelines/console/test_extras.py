"""What is said where a module is missing: the extra that brings it, and no extra where none would help."""

import importlib.util

import fsspec
import pytest

from pipelines.cli import main
from pipelines.console import extras


@pytest.fixture(autouse=True)
def nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def missing(module: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(f"No module named {module!r}", name=module)


@pytest.mark.parametrize(
    ("module", "command", "extra"),
    [
        ("cv2", "curate", "curate"),
        ("av", "curate", "curate"),
        ("av.error", "caption", "caption"),
        ("PIL", "sample", "sample"),
        ("open_clip", "report", "curate"),
        ("diffusers", "train", "train"),
        ("diffusers", "encode", "train"),
        ("peft", "train", "embedded"),
        ("s3fs", "curate", "s3"),
    ],
)
def test_a_missing_module_names_the_extra_that_brings_it(module: str, command: str, extra: str) -> None:
    told = extras.explained(missing(module), command)
    assert told == f"No module named {module!r}; pip install 'reelpack[{extra}]'"


def test_the_module_of_a_filesystem_is_found_behind_what_fsspec_says() -> None:
    error = ImportError("Install s3fs to access S3")
    error.__cause__ = missing("s3fs")
    assert extras.explained(error, "curate") == "Install s3fs to access S3; pip install 'reelpack[s3]'"


def test_a_module_of_no_extra_is_named_itself() -> None:
    assert extras.explained(missing("gcsfs")).endswith("no extra of reelpack brings it: pip install gcsfs")


@pytest.mark.parametrize(
    "error",
    [
        ImportError("cannot import name 'Sparkle' from 'transformers'", name="transformers"),
        ImportError("libGL.so.1: cannot open shared object file"),
        missing("cv2.gapi"),
        missing("pipelines.sparkle"),
    ],
)
def test_what_is_installed_and_broken_is_no_missing_extra(error: ImportError, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    told = extras.explained(error, "caption")
    assert told.startswith(str(error)) and "REELPACK_DEBUG=1" in told and "pip install" not in told


def test_the_command_line_says_it_in_one_message(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def url_to_fs(*arguments: object, **options: object) -> None:
        raise ImportError("Install s3fs to access S3") from missing("s3fs")

    monkeypatch.setattr(fsspec, "get_filesystem_class", url_to_fs)
    with pytest.raises(SystemExit) as stopped:
        main(["curate", "s3://bucket/films", "--out", "s3://bucket/out"])
    told = capsys.readouterr()
    assert stopped.value.code == 2
    assert (told.out + told.err).strip() == "error: Install s3fs to access S3; pip install 'reelpack[s3]'"
