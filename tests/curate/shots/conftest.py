"""The embedded network of the shot detectors."""

import pytest

from curate.encoders import weights


@pytest.fixture(scope="session", autouse=True)
def _transnetv2() -> None:
    weights.fetch(["transnetv2"])
