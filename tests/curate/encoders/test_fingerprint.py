import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from curate.encoders.fingerprint import library_versions, major_versions, other_libraries, path_digest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model" / "sub").mkdir(parents=True)
    (tmp_path / "model" / "a.bin").write_bytes(b"weights")
    (tmp_path / "model" / "sub" / "b.json").write_bytes(b"{}")
    return tmp_path / "model"


def test_the_same_content_elsewhere_has_the_same_digest(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / ".cache").write_bytes(b"x")
    (tmp_path / "copy" / "README.md").write_bytes(b"x")
    assert path_digest(folder) == path_digest(tmp_path / "copy")


def test_any_changed_added_or_renamed_file_changes_the_digest(folder: Path) -> None:
    digests = [path_digest(folder)]
    (folder / "sub" / "b.json").write_bytes(b"[]")  # same size
    os.utime(folder / "sub" / "b.json", ns=(1, 1))
    digests.append(path_digest(folder))
    (folder / "c.bin").write_bytes(b"more")
    digests.append(path_digest(folder))
    (folder / "c.bin").rename(folder / "d.bin")
    digests.append(path_digest(folder))
    assert len(set(digests)) == 4


def test_versions_are_told_where_they_differ():
    now = library_versions("numpy", "no-such-package")
    assert now == {"numpy": np.__version__}
    assert major_versions("numpy", "no-such-package") == f"numpy={np.__version__.split('.')[0]}"
    assert other_libraries(now, "captions") is None
    note = other_libraries({"numpy": "1.0", "no-such-package": "2.0"}, "captions")
    assert note and f"numpy 1.0 (here {np.__version__})" in note and "no-such-package 2.0 (here none)" in note
