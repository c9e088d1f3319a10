"""What a folder with a run is compared by: settings that were added later, and are null, make no other run."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.same_run import SETTINGS, check_same_run


@pytest.mark.parametrize(
    ("then", "now", "other"),
    [
        ({"loss": {"pixel": "l1"}}, {"loss": {"pixel": "l1"}}, None),
        ({"loss": {"pixel": "l1"}}, {"loss": {"pixel": "l1", "perceptual": None}}, None),
        ({"loss": {"pixel": "l1"}}, {"loss": {"pixel": "l1", "perceptual": {"weight": 1}}}, "train.loss"),
        ({"loss": {"pixel": "l1"}}, {"loss": {"pixel": "l2"}}, "train.loss"),
        ({"loss": {"adversary": {"width": 8}}}, {"loss": {"adversary": None}}, "train.loss"),
        ({"steps": 5, "held_out": {"every": 1}}, {"steps": 5, "held_out": {"every": 2}}, None),
        ({"sizes": [1, 2]}, {"sizes": [1, 3]}, "train.sizes"),
    ],
)
def test_a_run_is_the_same_without_what_came_later_and_is_null(
    then: dict[str, Any], now: dict[str, Any], other: str | None, tmp_path: Path
) -> None:
    (tmp_path / SETTINGS).write_text(yaml.safe_dump({"train": then, "data": "x"}))
    check_same_run(tmp_path, {"train": now, "data": "x"}, "train", {"held_out"}, begun=other is None)
    if other is not None:
        with pytest.raises(ValueError, match=f"begun with other {other}"):
            check_same_run(tmp_path, {"train": now, "data": "x"}, "train", {"held_out"}, begun=True)
    with pytest.raises(ValueError, match="begun with other data"):
        check_same_run(tmp_path, {"train": then, "data": "y"}, "train", set(), begun=True)
