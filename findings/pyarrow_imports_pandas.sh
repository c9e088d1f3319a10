#!/bin/sh
# Guess: pyarrow imports pandas when it is given something of pandas, or asked for it; and where a program may not import
# it, `sys.modules["pandas"] = None` makes pyarrow continue as if it were not installed.
# Behaviour: the first `pa.array` of a plain list imports pandas, to see whether the list is one of its types. With
# `sys.modules["pandas"] = None` it fails with an AttributeError of None: compiled modules take what is in `sys.modules`
# as it is, where Python's own `import` raises ModuleNotFoundError. A finder in `sys.meta_path` that raises
# ModuleNotFoundError is what pyarrow understands.
# So: a command that reads tables and should start fast needs such a finder; half of its CPU time is the import of pandas.
# Seen with pyarrow 26.0.1, pandas 3.1.1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyarrow==26.0.1 pandas==3.1.1
"$folder/venv/bin/python" -c 'from importlib.metadata import version as v; print("pyarrow", v("pyarrow"), "pandas", v("pandas"))'

"$folder/venv/bin/python" - <<'END'
import sys

import pyarrow as pa

before = "pandas" in sys.modules
pa.array([1, 2, 3])
after = "pandas" in sys.modules
print(f"pandas is imported: before an array of a list {before}, after it {after}")
assert (before, after) == (False, True), "the behaviour has changed"
END

"$folder/venv/bin/python" - <<'END'
import sys

import pyarrow as pa

sys.modules["pandas"] = None
try:
    pa.array([1, 2, 3])
except AttributeError as error:
    print("pandas is None in sys.modules:", error)
else:
    raise SystemExit("the behaviour has changed")
END

"$folder/venv/bin/python" - <<'END'
import sys

import pyarrow as pa


class Without:
    def find_spec(self, name, path=None, target=None):
        if name == "pandas":
            raise ModuleNotFoundError(name)


sys.meta_path.insert(0, Without())
print("a finder that raises:", pa.array([1, 2, 3]).to_pylist(), "pandas" in sys.modules)
assert "pandas" not in sys.modules, "the behaviour has changed"
END
