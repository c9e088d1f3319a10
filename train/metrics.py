"""What a run says of itself: one JSON line per step and per validation, the same to TensorBoard, and a summary."""

import json
import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

NUM_AVERAGED_STEPS = 10


class MetricsLog:
    """Appends to `metrics.jsonl` and to `tensorboard/`; drops the rows of steps that a resumed run does again."""

    def __init__(self, out: Path, resumed_step: int) -> None:
        self.path = out / "metrics.jsonl"
        kept = [row for row in read_metrics(self.path) if row["step"] <= resumed_step]
        self.path.write_text("".join(json.dumps(row) + "\n" for row in kept))
        self._file = self.path.open("a")
        self._board = _summary_writer(out / "tensorboard", resumed_step)

    def write(self, row: dict[str, Any]) -> None:
        # JSON has no NaN: what is no number is null.
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        self._file.write(json.dumps(finite) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in row.items():
                if name != "step" and isinstance(value, int | float):
                    self._board.add_scalar(name, value, row["step"])

    def close(self) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


def _summary_writer(folder: Path, resumed_step: int) -> Any | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.warning("no TensorBoard log: `pip install reelpack[train]` brings tensorboard")
        return None
    return SummaryWriter(str(folder), purge_step=resumed_step + 1)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Whole rows of `metrics.jsonl`; a last line that a kill cut short is left out."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainSummary:
    """A run in figures; `summary.json` holds the same. Losses of training are means over ten steps."""

    steps: int
    num_parameters: int
    train_clips: int
    val_clips: int
    train_loss_first: float
    train_loss_last: float
    val_loss_first: float | None  # at the first validation; None without held-out clips
    val_loss_last: float | None
    val_loss_ema_last: float | None
    caption_loss_true: float | None
    caption_loss_shuffled: float | None
    tokens: int
    samples: int
    token_efficiency: float
    tokens_per_s: float
    skipped_steps: int
    checkpoint: str

    @classmethod
    def of(
        cls, rows: list[dict[str, Any]], *, num_parameters: int, train_clips: int, val_clips: int, checkpoint: Path
    ) -> "TrainSummary":
        """From the rows of `metrics.jsonl`, so that a resumed run is summed up whole."""
        steps = [row for row in rows if "loss" in row]
        finite = [row["loss"] for row in steps if not row["skipped"]]
        validations = [row for row in rows if "val_loss" in row]
        captions = [row for row in rows if "caption_loss_true" in row]
        tokens = sum(row["tokens"] for row in steps)
        return cls(
            steps=steps[-1]["step"],
            num_parameters=num_parameters,
            train_clips=train_clips,
            val_clips=val_clips,
            train_loss_first=_mean(finite[:NUM_AVERAGED_STEPS]),
            train_loss_last=_mean(finite[-NUM_AVERAGED_STEPS:]),
            val_loss_first=validations[0]["val_loss"] if validations else None,
            val_loss_last=validations[-1]["val_loss"] if validations else None,
            val_loss_ema_last=validations[-1]["val_loss_ema"] if validations else None,
            caption_loss_true=captions[-1]["caption_loss_true"] if captions else None,
            caption_loss_shuffled=captions[-1]["caption_loss_shuffled"] if captions else None,
            tokens=tokens,
            samples=sum(row["samples"] for row in steps),
            token_efficiency=_mean([row["token_efficiency"] for row in steps]),
            tokens_per_s=tokens / max(1e-9, sum(row["seconds"] for row in steps)),
            skipped_steps=sum(row["skipped"] for row in steps),
            checkpoint=str(checkpoint),
        )

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
