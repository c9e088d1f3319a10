"""Checkpoints: everything a run needs to continue as if it had not stopped.

    checkpoints/step-000100/model.safetensors  ema.safetensors  optimizer.pt  state.json

A checkpoint is written under a temporary name and published by one rename: a folder that is there is whole. Noise,
timesteps and captions are functions of epoch and clip, the learning rate of the step: beside the weights, the step and
the cursor of the plan are all there is to remember.
"""

import json
import os
import pickle
import re
import shutil
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from train.data.plan import Cursor
from train.ema import EMA

_STEP = re.compile(r"step-(\d{6,})")


class CheckpointConfig(BaseModel):
    """How often a run is saved."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    every: int = Field(1000, ge=1, description="steps between checkpoints; the last step is always saved")
    keep: int = Field(2, ge=1, description="newest checkpoints that are kept")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunState:
    """How far a run is: steps done, and where in its plan the next one begins."""

    step: int
    cursor: Cursor


def save_checkpoint(
    root: Path, state: RunState, model: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer, *, keep: int
) -> Path:
    """Publish the state of a run, then remove all but the newest `keep` checkpoints."""
    step = state.step
    root.mkdir(parents=True, exist_ok=True)
    temporary = root / f".step-{step:06d}.{uuid.uuid4().hex}.tmp"
    temporary.mkdir()
    save_file({name: p.detach().contiguous() for name, p in model.named_parameters()}, temporary / "model.safetensors")
    save_file(ema.state_dict(), temporary / "ema.safetensors")
    rng = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}
    torch.save({"optimizer": optimizer.state_dict(), "rng": rng}, temporary / "optimizer.pt")
    facts = {"step": step, "cursor": asdict(state.cursor), "torch": torch.__version__}
    (temporary / "state.json").write_text(json.dumps(facts))
    for file in temporary.iterdir():
        _flush(file)
    folder = root / f"step-{step:06d}"
    if folder.exists():
        shutil.rmtree(folder)
    temporary.rename(folder)
    _flush(root)
    for old in list_checkpoints(root)[:-keep]:
        shutil.rmtree(old)
    for stale in root.glob(".step-*.tmp"):
        shutil.rmtree(stale)
    return folder


def list_checkpoints(root: Path) -> list[Path]:
    """Whole checkpoints below `root`, oldest first."""
    found = [(int(match[1]), path) for path in root.glob("step-*") if (match := _STEP.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def load_checkpoint(
    folder: Path, model: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer, device: torch.device
) -> RunState:
    """Restore in place; returns how far the run was.

    Raises:
        ValueError: the checkpoint is incomplete or of another model.
    """
    try:
        model.load_state_dict(load_file(folder / "model.safetensors"))
        ema.load_state_dict(load_file(folder / "ema.safetensors"))
        state: dict[str, Any] = torch.load(folder / "optimizer.pt", map_location=device, weights_only=True)
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"]["cpu"].cpu())
        facts = json.loads((folder / "state.json").read_text())
        done = RunState(step=int(facts["step"]), cursor=Cursor(**facts["cursor"]))
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, SafetensorError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"{folder}: cannot continue from this checkpoint ({error}); remove it to continue from the one before, "
            "or train into another folder"
        ) from error
    if state["rng"]["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([s.cpu() for s in state["rng"]["cuda"][: torch.cuda.device_count()]])
    return done


def _flush(path: Path) -> None:
    """Force a file, or a folder's list of names, to disk: a rename must not overtake what it publishes."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
