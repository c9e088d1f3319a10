#!/bin/sh
# Guess: `load_dataset("webdataset", data_dir=...)` reads tars of samples of several kinds (images and videos, some
# without a caption), or refuses them.
# Behaviour: columns and types come from the first five samples of one tar alone. Members and .json keys that first
# appear later are dropped without a word: of an image after five videos nothing is left but its key. A .json number that
# is an integer in the first five and a float later is truncated (1.5 is read as 1). A .json value that is null in the
# first five and a number later is an error. Only different members among the first five are refused with a reason.
# So: write the same members for every sample, the same .json keys, no nulls, and one type for each key.
# Seen with datasets 5.2.0, pyarrow 26.0.1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q datasets==5.2.0 pyarrow==26.0.1
export HF_HUB_OFFLINE=1 HF_HOME="$folder/home"
"$folder/venv/bin/python" - "$folder" <<'END'
import io
import json
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

from datasets import load_dataset

print("datasets", version("datasets"), "pyarrow", version("pyarrow"))


def read(name, samples):
    """The last sample as it is read, or the innermost error."""
    root = Path(sys.argv[1], name)
    root.mkdir()
    with tarfile.open(root / "train-000000.tar", "w") as tar:
        for number, parts in enumerate(samples):
            for ext, payload in parts.items():
                info = tarfile.TarInfo(f"{number:03}.{ext}")
                info.size = len(payload)
                tar.addfile(info, io.BytesIO(payload))
    try:
        rows = load_dataset("webdataset", data_dir=str(root), cache_dir=f"{root}-cache", split="train")
    except Exception as error:
        while error.__cause__ is not None:
            error = error.__cause__
        last = f"{type(error).__name__}: {error}"
    else:
        last = {key: value for key, value in rows[-1].items() if not key.startswith("__")}
    print(f"{name}: {last}")
    return last


def sample(value, **members):
    return {"txt": b"caption", "json": json.dumps({"x": value}).encode()} | members


later = read("members that come later", [sample(1)] * 5 + [sample(1, cls=b"3")])
floats = read("floats after integers", [sample(1)] * 5 + [sample(1.5)])
nulls = read("numbers after nulls", [sample(None)] * 5 + [sample(1.5)])
early = read("members that come early", [sample(1)] * 4 + [sample(1, cls=b"3")])
assert later == {"txt": "caption", "json": {"x": 1}}, "the behaviour has changed"
assert floats["json"] == {"x": 1}, "the behaviour has changed"
assert "null" in nulls and "same prefix or the same types" in early, "the behaviour has changed"
END
