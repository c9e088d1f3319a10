"""How a pack reaches the device."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from train.packing.batch import PackedBatch, Sample, pack


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for part in value.values() for tensor in tensors(part)]
    if is_dataclass(value):
        return [tensor for field in fields(value) for tensor in tensors(getattr(value, field.name))]
    return []


@pytest.fixture
def batch(samples: list[Sample]) -> PackedBatch:
    shown = replace(samples[0], conditioning={"low_resolution": samples[0].latent})
    return pack([shown, *samples[1:]], (1, 2, 2), 12)


def test_every_tensor_of_a_pack_is_pinned(batch: PackedBatch, monkeypatch: pytest.MonkeyPatch):
    pinned: list[int] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: pinned.append(id(tensor)) or tensor)
    batch.pin_memory()
    assert sorted(pinned) == sorted(map(id, tensors(batch))) and len(pinned) > 15


def test_no_copy_of_a_pack_is_waited_for(batch: PackedBatch, monkeypatch: pytest.MonkeyPatch):
    waited: dict[int, bool] = {}
    move = Tensor.to

    def watched(tensor: Tensor, *where: Any, **how: Any) -> Tensor:
        waited[id(tensor)] = not how.get("non_blocking", False)
        return move(tensor, *where, **how)

    monkeypatch.setattr(Tensor, "to", watched)
    batch.to("meta")
    assert waited.keys() == set(map(id, tensors(batch))) and not any(waited.values())


def test_a_pack_that_is_made_under_autocast_keeps_its_types(samples: list[Sample]):
    """The loader may run in a thread that trains: latents stay float32, captions as they are stored."""
    half = [replace(one, text=None if one.text is None else one.text.half()) for one in samples]
    plain = pack(half, (1, 2, 2), 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = pack(half, (1, 2, 2), 12)
    assert [t.dtype for t in tensors(inside)] == [t.dtype for t in tensors(plain)]
    assert inside.tokens.dtype == torch.float32 and inside.text.dtype == torch.float16
    assert torch.equal(inside.text, plain.text) and torch.equal(inside.tokens, plain.tokens)
