#!/bin/sh
# Guess: a reader of tars raises where a header is damaged, or where another tar follows (`cat a.tar b.tar`).
# Behaviour: `tarfile`, and `webdataset` on top of it, take both for the end of the archive: of six samples three come
# back, without an error or a warning, and a training set shrinks without a word. Only a header in the first block
# raises. A payload that is cut off raises in both.
# So: when the last member is read, look at the block after it: zeros, nothing but zeros behind them, or the end of the
# file. Versions: Python 3.11, webdataset 1.0.2.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet webdataset==1.0.2
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import io
import sys
import tarfile
from pathlib import Path

import webdataset

folder = Path(sys.argv[1])


def tar_of(names):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"data"))
    return buffer.getvalue()


six = tar_of(f"{number}.txt" for number in range(6))
header = six.index(b"3.txt")
cases = {
    "whole": six,
    "damaged header": six[:header] + b"\xff" * 100 + six[header + 100 :],
    "two tars": tar_of(f"{number}.txt" for number in range(3)) + tar_of(f"{number}.txt" for number in range(3, 6)),
}
found = {}
for name, data in cases.items():
    path = folder / f"{name.replace(' ', '_')}.tar"
    path.write_bytes(data)
    with tarfile.open(path) as tar:
        by_python = len(tar.getmembers())
    samples = sum(1 for _ in webdataset.WebDataset(str(path), shardshuffle=False))
    found[name] = (by_python, samples)
    print(f"{name:15} tarfile: {by_python} members, webdataset: {samples} samples, no error")

assert found == {"whole": (6, 6), "damaged header": (3, 3), "two tars": (3, 3)}, "the behaviour changed"
PYTHON
