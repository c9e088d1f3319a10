import os
import shutil
from pathlib import Path

import pytest

from curate.encoders.fingerprint import path_digest


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
