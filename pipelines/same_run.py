"""The folder of a training that names what it trains: `config.yaml`, and whether a command continues the run in it."""

from collections.abc import Collection, Mapping
from typing import Any

import yaml
from pydantic import ValidationError

from curate.storage.place import AnyPath
from pipelines.config import Config, upgraded

SETTINGS = "config.yaml"


def check_same_run(
    out: AnyPath, identity: Mapping[str, Any], section: str, may_change: Collection[str], *, begun: bool
) -> None:
    """That a folder with a run holds this one. A setting that the run does not have yet, as a later version adds it,
    counts as its default.

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
    now, then = identity[section], _completed(section, saved[section])
    changed += [f"{section}.{name}" for name in now if name not in may_change and now[name] != then.get(name)]
    if changed:
        raise ValueError(
            f"{out} holds a run that was begun with other {', '.join(changed)}; expected the settings in "
            f"{out / SETTINGS} and the same data, or another --out"
        )


def _completed(section: str, saved: dict[str, Any]) -> dict[str, Any]:
    """Saved settings with the defaults of those that came later; as they are where they are valid no more."""
    try:
        config = Config.model_validate(upgraded({section: saved}))
    except ValidationError:
        return saved
    completed: dict[str, Any] = config.model_dump(mode="json")[section]
    return completed
