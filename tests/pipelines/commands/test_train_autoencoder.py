"""What `reelpack train-autoencoder` says at its end."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.commands.train_autoencoder import show
from pipelines.drivers.train_autoencoder import AutoencoderSummary

STEP = {"loss": 1.0, "code_usage": 0.01}
COULD = {"code_usage_limit": 0.25, "commitment": 0.1}
"""Share of the codes that a batch has positions for; of codes that are learned."""


@pytest.mark.parametrize(
    ("rows", "warned"),
    [
        ([STEP | COULD], "batches use 4.0% of the codes that they could"),
        ([STEP | COULD, STEP | COULD | {"code_usage": 0.03}], "batches use 8.0% of the codes that they could"),
        ([STEP | COULD | {"code_usage": 0.05}], None),
        ([STEP], None),  # FSQ: they are not learned
    ],
)
def test_a_codebook_that_is_learned_is_told_to_collapse(
    rows: list[dict[str, Any]], warned: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = {"num_weights": 1, "num_clips": 1, "num_held_out": 0}
    show(AutoencoderSummary(weights=Path("run"), setting="", rows=tuple({"step": 1} | row for row in rows), **counts))
    said = " ".join("".join(capsys.readouterr()).split())
    assert warned in said if warned else "of the codes" not in said
