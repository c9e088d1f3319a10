"""Settings of scorers in tests."""

import json
from typing import Any

from curate.scores.config import default_scorers


def only(**scorers: dict[str, Any]) -> str:
    """The value of `score.scorers` for these and no other one: `only(brisque={}, sound={"silence_db": -50})`."""
    return json.dumps(dict.fromkeys(default_scorers()) | scorers)
