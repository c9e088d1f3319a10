"""What `reelpack train-autoencoder` says at its end."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.commands.train_autoencoder import show
from pipelines.drivers.train_autoencoder import AutoencoderSummary

STEP = {"loss": 1.0, "code_usage": 0.01}


@pytest.mark.parametrize(
    ("rows", "warned"),
    [
        ([STEP | {"commitment": 0.1}], "1.0% of the codes occur in a batch"),
        ([STEP | {"commitment": 0.1}, {"held_out": {"code_usage": 0.02}}], "2.0% of the codes occur in the held-out"),
        ([STEP | {"commitment": 0.1}, {"held_out": {"code_usage": 0.5}}], None),
        ([STEP], None),  # FSQ: no batch has as many positions as there are codes
    ],
)
def test_a_codebook_that_is_learned_is_told_to_collapse(
    rows: list[dict[str, Any]], warned: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = {"num_weights": 1, "num_clips": 1, "num_held_out": 0}
    show(AutoencoderSummary(weights=Path("run"), setting="", rows=tuple({"step": 1} | row for row in rows), **counts))
    said = " ".join("".join(capsys.readouterr()).split())
    assert warned in said if warned else "of the codes" not in said
