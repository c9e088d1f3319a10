"""The hooks before a commit are the checks of `make check`."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def test_hooks_run_what_make_check_runs() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), flags=re.M)
    assert recipe is not None
    checks = [re.sub(r"\S*\$\(BIN\)/|PYTHONPATH=\. ", "", line).split() for line in recipe[1].splitlines()]
    hooks = [hook["entry"].removeprefix("env PYTHONPATH=. ").split() for hook in repository["hooks"]]
    options = {".", "--check", "--fix"}
    assert [[w for w in hook if w not in options] for hook in hooks] == [
        [w for w in check if w not in options] for check in checks
    ]
