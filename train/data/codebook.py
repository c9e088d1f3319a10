"""Token numbers (`encode.store=ids`) to latents, by the codebook that lies beside them: no autoencoder is loaded."""

import hashlib
from collections.abc import Mapping, Sequence
from math import prod

from safetensors.torch import load
from torch import Tensor

from curate.dataset.layout import EncodedLayout
from curate.storage.place import locate
from curate.storage.tensors import tensors_to_bytes
from train.autoencoder.bottlenecks.base import look_up
from train.data.fingerprint import read_record

NAMES = {"ids": "latent", "lone_ids": "lone"}


def read_codebook(folder: str) -> tuple[Tensor, ...]:
    """Tables as `look_up` takes them, in float16, of the latents in `folder`.

    Raises:
        ValueError: there is no codebook, or not the one of the latents.
    """
    layout = EncodedLayout(folder)
    expected = (read_record(layout) or {}).get("codebook", {}).get("sha256")
    fs, path = locate(layout.codebook)
    payload = fs.cat_file(path) if fs.exists(path) else b""
    found = hashlib.sha256(payload).hexdigest() if payload else "none"
    if found != expected:
        raise ValueError(
            f"{layout.codebook}: got a codebook of digest {found}, expected {expected}, that of the latents; put it "
            "back, or run `reelpack encode` again with the settings in fingerprint.json"
        )
    tables = load(payload)
    return tuple(tables[str(number)] for number in range(len(tables)))


def latent_of(ids: Tensor, tables: Sequence[Tensor]) -> Tensor:
    """(T, H, W) integers to (C, T, H, W) float16: the values that `encode.store=values` stores.

    Raises:
        ValueError: there is no code of some number.
    """
    numbers, num_codes = ids.long(), prod(map(len, tables))
    if numbers.ndim != 3 or not bool(((numbers >= 0) & (numbers < num_codes)).all()):
        raise ValueError(
            f"got ids of shape {tuple(ids.shape)} from {int(numbers.min())} to {int(numbers.max())}; expected "
            f"(T, H, W) from 0 to {num_codes - 1}, the codes of the codebook; encode it again"
        )
    return look_up(numbers, tables).movedim(-1, 0)


def latents_of(tensors: Mapping[str, Tensor], tables: Sequence[Tensor]) -> dict[str, Tensor]:
    """What `encode.store=values` stores, of what `ids` does: each is named after its numbers."""
    return {NAMES[name]: latent_of(ids, tables) for name, ids in tensors.items() if name in NAMES}


def as_values(payload: bytes, tables: Sequence[Tensor]) -> bytes:
    """The safetensors file of ids as that of `encode.store=values`."""
    return tensors_to_bytes(latents_of(load(payload), tables))
