"""Checkpoints of a run: all that a resumed one needs to equal an undisturbed one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from caption.finetune.learner import Learner
from curate.storage.publish import publish, remove_unfinished

FILE = "checkpoint.pt"


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """Where a run is: `step` optimizer steps of stage number `stage` are done, and `num_rows` rows of metrics are
    written."""

    stage: int = 0
    step: int = 0
    num_rows: int = 0


def save(folder: Path, at: Position, learner: Learner, optimizer: torch.optim.Optimizer | None) -> None:
    """Replace the folder's checkpoint; `optimizer` None: between two stages."""
    state = {
        "position": {"stage": at.stage, "step": at.step, "num_rows": at.num_rows},
        "weights": {name: weight.detach() for name, weight in learner.trained().items()},
        "optimizer": optimizer.state_dict() if optimizer else None,
        "rng": _rng(learner.device),
    }
    with publish(str(folder / FILE)) as file:
        torch.save(state, file)


def load(folder: Path, learner: Learner) -> tuple[Position, dict[str, Any] | None]:
    """Where the run in a folder is, and its optimizer's state; weights and random state are restored.

    Raises:
        ValueError: the checkpoint has other weights.
    """
    remove_unfinished(str(folder), {FILE})
    path = folder / FILE
    if not path.exists():
        return Position(), None
    state = torch.load(path, map_location=learner.device, weights_only=True)
    weights = learner.trained()
    if weights.keys() != state["weights"].keys():
        raise ValueError(f"{path}: its weights are not those that this run trains; use another --out")
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(state["weights"][name])
    torch.set_rng_state(state["rng"]["cpu"].cpu())
    if learner.device.type == "cuda":
        torch.cuda.set_rng_state(state["rng"]["cuda"].cpu(), learner.device)
    return Position(**state["position"]), state["optimizer"]


def _rng(device: torch.device) -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states
