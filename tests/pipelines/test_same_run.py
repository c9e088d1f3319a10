"""What a folder with a run is compared by: settings that a later version added count as their defaults."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.same_run import SETTINGS, check_same_run
from train.autoencoder.training.config import TrainAutoencoderConfig

SECTION = "train_autoencoder"
IMAGES = {"over_time": False, "temporal_stride": 1}


def saved(**changes: Any) -> dict[str, Any]:
    return TrainAutoencoderConfig(**changes).model_dump(mode="json")


def without(settings: dict[str, Any], *path: str) -> dict[str, Any]:
    """Settings as an earlier version saved them, which did not have the last of `path`."""
    name, *rest = path
    kept = {key: value for key, value in settings.items() if key != name}
    return kept | {name: without(settings[name], *rest)} if rest else kept


@pytest.mark.parametrize(
    ("then", "now", "other"),
    [
        (saved(), saved(), None),
        (without(saved(), "loss", "perceptual"), saved(), None),
        (without(saved(), "network", "over_time"), saved(), None),
        (
            without(saved(), "network", "over_time"),
            saved(network={"over_time": False, "temporal_stride": 1}),
            "network",
        ),
        (saved() | {"left": 1}, saved(), None),
        (saved(), saved(loss={"pixel": "l2"}), "loss"),
        (saved(loss={"adversary": {}}), saved(), "loss"),
        (saved(held_out={"every": 7}), saved(), None),
        (saved(steps=5), saved(), "steps"),
    ],
)
def test_a_run_is_the_same_without_what_came_later_and_is_the_default(
    then: dict[str, Any], now: dict[str, Any], other: str | None, tmp_path: Path
) -> None:
    (tmp_path / SETTINGS).write_text(yaml.safe_dump({SECTION: then, "data": "x"}))
    check_same_run(tmp_path, {SECTION: now, "data": "x"}, SECTION, {"held_out"}, begun=other is None)
    if other is not None:
        with pytest.raises(ValueError, match=f"begun with other {SECTION}.{other};"):
            check_same_run(tmp_path, {SECTION: now, "data": "x"}, SECTION, {"held_out"}, begun=True)
    with pytest.raises(ValueError, match="begun with other data"):
        check_same_run(tmp_path, {SECTION: then, "data": "y"}, SECTION, set(), begun=True)
