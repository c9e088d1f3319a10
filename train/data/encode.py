"""Latents that were not stored (`encode.store=false`): made from the clip on the loader's thread."""

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from curate.dataset.layout import EncodedLayout
from curate.media.readers.config import MediaConfig
from curate.schema import Failure
from curate.storage.place import locate
from curate.threads import import_decoders
from train.autoencoder.clip import PLACE, EncodeItem
from train.autoencoder.encode import EncodeStage
from train.autoencoder.record import config_of
from train.data.in_turn import InTurn
from train.data.space import described_latents


class Encoder:
    """Decodes and encodes clips as `reelpack encode` does, to the same values.

    Args:
        folder: of the latents; its fingerprint.json says how they are made.
        shards: folder of the clips.
        device: of the worker; None: the current one.

    Raises:
        ValueError: the autoencoder found now is not the one of the fingerprint.
    """

    def __init__(self, folder: str, shards: str, device: torch.device | None = None) -> None:
        fs, path = locate(EncodedLayout(folder).record)
        record = json.loads(fs.cat_file(path))
        import_decoders()
        config, media = config_of(record), MediaConfig(**record.get("media", {}))
        self._stage = EncodeStage(config, shards, device, media)
        found = self._stage.fingerprint_record()
        if found["fingerprint"] != record["fingerprint"]:
            raise ValueError(
                f"{folder}: the dataset has latents {described_latents(record)}, these settings and weights now give "
                f"{described_latents(found)}; put the autoencoder's weights back, or run `reelpack encode` again"
            )
        self._turn = InTurn(self._stage.device)

    def tensors(self, row: dict[str, Any], lone_frames: Sequence[int] = ()) -> dict[str, Tensor]:
        """Of a row of the manifest, what would be stored; one at a time, from any thread. Of frames that are encoded
        alone: these.

        Raises:
            ValueError: the clip cannot be read or encoded.
        """
        item = EncodeItem(**{name: row[name] for name in PLACE}, window=row["window"])
        with self._turn():
            outcome = self._stage.encode(item, lone_frames)
        if isinstance(outcome, Failure):
            raise ValueError(f"clip {item.clip_id} in {item.shard}: {outcome.kind}: {outcome.detail}")
        [window] = outcome
        assert window.tensors is not None
        return {name: torch.from_numpy(array) for name, array in window.tensors.items()}


@cache
def encoder(folder: str, shards: str, device: torch.device | None = None) -> Encoder:
    """One for all readers of a process: training and validation share its weights."""
    return Encoder(folder, shards, device)
