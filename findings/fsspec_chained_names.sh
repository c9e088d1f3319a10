#!/bin/sh
# Guess: fsspec.open() and fsspec.core.url_to_fs() take an absolute local path as the name of a file.
# Behaviour: `::` anywhere in it is read as a chain of filesystems, without a protocol too. Of `a.mp4::b.mp4` only `a.mp4`
# is used: where that exists its bytes come back, without an error; otherwise a file that is there counts as missing.
# LocalFileSystem().open() of the same path opens the file of that name.
# Versions: fsspec 2026.9.0, Python 3.11. Seen in: a folder of videos called "Show :: Part 1.mp4".
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet fsspec==2026.9.0
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

folder = Path(sys.argv[1]) / "films"
folder.mkdir()
for name in ("a.mp4", "a.mp4::b.mp4", "Show :: Part 1.mp4"):
    (folder / name).write_text(f"the bytes of {name}")
print("fsspec", fsspec.__version__, "Python", sys.version.split()[0])

path = str(folder / "a.mp4::b.mp4")
with fsspec.open(path, "rt") as file:
    opened = file.read()
print("fsspec.open:           ", opened)
print("url_to_fs:             ", Path(url_to_fs(path)[1]).name)
with LocalFileSystem().open(path, "rt") as file:
    direct = file.read()
print("LocalFileSystem().open:", direct)
fs, where = url_to_fs(str(folder / "Show :: Part 1.mp4"))
print("Show :: Part 1.mp4:    ", "there" if fs.exists(where) else "missing", "as", repr(Path(where).name))

assert opened == "the bytes of a.mp4", "the behaviour changed"
assert direct == "the bytes of a.mp4::b.mp4", "the behaviour changed"
assert not fs.exists(where), "the behaviour changed"
PYTHON
