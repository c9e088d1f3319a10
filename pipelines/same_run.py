"""The folder of a training that names what it trains: `config.yaml`, and whether a command continues the run in it."""

from collections.abc import Collection, Mapping
from typing import Any

import yaml

from curate.storage.place import AnyPath

SETTINGS = "config.yaml"


def check_same_run(
    out: AnyPath, identity: Mapping[str, Any], section: str, may_change: Collection[str], *, begun: bool
) -> None:
    """That a folder with a run holds this one. A setting that the run does not have yet is no difference where it is
    null: what a later version adds is off.

    Args:
        out: the folder.
        identity: what decides what is learned; its key `section` has the settings.
        section: of the configuration.
        may_change: settings that a resumed run may have otherwise.
        begun: whether there is a checkpoint.

    Raises:
        ValueError: it holds another.
    """
    if not begun:
        return
    saved = yaml.safe_load((out / SETTINGS).read_text())
    changed = [name for name in identity if name != section and identity[name] != saved.get(name)]
    now, then = identity[section], saved[section]
    changed += [f"{section}.{name}" for name in now if name not in may_change and not _same(now[name], then.get(name))]
    if changed:
        raise ValueError(
            f"{out} holds a run that was begun with other {', '.join(changed)}; expected the settings in "
            f"{out / SETTINGS} and the same data, or another --out"
        )


def _same(now: Any, then: Any) -> bool:
    if isinstance(now, Mapping) and isinstance(then, Mapping):
        return all(_same(value, then.get(name)) for name, value in now.items())
    return bool(now == then)
