"""The folder of a training that names what it trains: `config.yaml`, and whether a command continues the run in it.

Beside what decides what is learned, the file says which dataset was read: a take-down from it finds the run.
"""

from collections.abc import Collection, Mapping
from typing import Any

import yaml
from pydantic import ValidationError

from curate.storage.place import AnyPath
from curate.storage.publish import write_text
from pipelines.config import Config, upgraded
from pipelines.inputs.sources import absolute

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


def write_settings(out: AnyPath, identity: Mapping[str, Any], dataset: str | None, train_clips: int) -> None:
    """OUT/config.yaml.

    Args:
        out: the folder of the run.
        identity: see `check_same_run`.
        dataset: URL of what the run trains on, as `forget` will name it; None: no dataset, but a film.
        train_clips: of it.
    """
    read = [] if dataset is None else [{"url": absolute(dataset), "train_clips": train_clips}]
    write_text(str(out / SETTINGS), yaml.safe_dump({**identity, "datasets": read}, sort_keys=False))


def _completed(section: str, saved: dict[str, Any]) -> dict[str, Any]:
    """Saved settings with the defaults of those that came later; as they are where they are valid no more."""
    try:
        config = Config.model_validate(upgraded({section: saved}))
    except ValidationError:
        return saved
    completed: dict[str, Any] = config.model_dump(mode="json")[section]
    return completed
