"""Alignment by patch: each token's features point where those of its part of the clip do (REPA, Yu et al. 2024, §3.2).

An image encoder sees frames of the clip as the autoencoder did: the same window, rate, size and crop. Of each token it
sees some of the pixel frames that the token's latent frames stand for; its map is interpolated to the grid of patches.
Frames are decoded and encoded on the loader's threads, where the pack is made; or the maps are stored with the latents
(`train.align.stored_features`).
"""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor
from torch.nn import functional as F

from curate.dataset.layout import EncodedLayout, Layout
from curate.device import pick_device, with_index
from curate.encoders.base import PatchEncoder
from curate.media.readers.config import MediaConfig
from curate.schema import Failure, MediaError
from curate.shards.tar import TarReader
from curate.storage.place import locate
from curate.threads import import_decoders
from train.align.base import Alignment
from train.align.frames import frames_of_tokens
from train.align.loss import alignment_loss
from train.align.patches_config import PatchesConfig
from train.align.stored_features import StoredFeatures
from train.autoencoder.clip import ClipOpener, EncodeItem, OpenedClip
from train.autoencoder.record import config_of
from train.data.check import wrong_sizes
from train.data.in_turn import InTurn
from train.data.index import PLACE, read_index
from train.data.manifest import Manifest
from train.packing.batch import PackedBatch
from train.packing.patches import fitting_size, grid_size
from train.packing.shapes import Patch


def of_manifest(
    config: PatchesConfig, manifest: Manifest, width: int, patch: Patch, seed: int, device: torch.device
) -> "PatchAlignment":
    """See `AlignSettings.build`. The features of one clip are computed or read, which finds what does not fit."""
    if config.stored:
        return _aligned(config, StoredFeatures(manifest, patch, device), width, seed, manifest.latents["features"])
    found = pick_device(config.encoder.device, setting="train.align.encoder.device", worker=device)
    encoder = config.encoder.model_copy(update={"device": str(with_index(found))}).build()
    encoder.setup()
    features = ClipFeatures(manifest, encoder, config.frames, patch, InTurn(found))
    features.check()
    named = {"kind": config.encoder.kind, "fingerprint": encoder.fingerprint}
    return _aligned(config, features, width, seed, named)


def _aligned(
    config: PatchesConfig, features: "ClipFeatures | StoredFeatures", width: int, seed: int, encoder: Mapping[str, Any]
) -> "PatchAlignment":
    dim = features.of(0, row := features.manifest.row(0), row["latent_t"]).shape[1]
    target = f"{encoder['kind']}-{encoder['fingerprint'][:16]}"
    return PatchAlignment(config, target, width=width, dim=dim, seed=seed, features=features)


class PatchAlignment(Alignment):
    """To features of tokens, which the loader has put into the pack. A sample's loss is the mean over its tokens."""

    def loss_sum(self, features: Tensor, batch: PackedBatch) -> Tensor:
        assert batch.features is not None, "the loader was given `features`"
        losses = alignment_loss(self.projector(features), batch.features)  # (L,)
        return batch.segments.mean(losses[:, None]).sum()


class ClipFeatures:
    """Features of an image encoder for each token of a clip's latent: see `train.align.base.TokenFeatures`.

    Args:
        manifest: of the training clips.
        encoder: ready.
        frames: of each token that it sees, at most.
        patch: of the model.
        turn: in which it is called.
    """

    def __init__(self, manifest: Manifest, encoder: PatchEncoder, frames: int, patch: Patch, turn: InTurn) -> None:
        import_decoders()
        self.manifest, self.encoder, self.frames, self.patch, self._turn = manifest, encoder, frames, patch, turn
        self._openers: dict[tuple[int, str], ClipOpener] = {}
        for number, root in sorted(set(zip(manifest.sources.tolist(), _roots(manifest.table), strict=True))):
            self._openers[number, root] = _opener(manifest.parts[number].url, root, manifest.latents)

    def check(self) -> None:
        """See that the clips' shards are there.

        Raises:
            ValueError: they are not.
        """
        if problem := next(wrong_sizes(self._media, "root", "", 0, 1), None):
            raise ValueError(f"train.align.kind=patches sees the frames of clips: {problem}")

    @cached_property
    def _media(self) -> pa.Table:
        """Of each row of the manifest, where its clip is stored."""
        tables = []
        for number, part in enumerate(self.manifest.parts):
            layout = Layout(part.url)
            index = read_index(layout.index, "reelpack curate", ["clip_id"], PLACE)
            rows = np.flatnonzero(self.manifest.sources == number)
            places = pc.index_in(self.manifest.column("clip_id").take(rows), index["clip_id"].combine_chunks())
            media = index.take(places.combine_chunks())
            tables.append(media.append_column("root", pa.array([layout.shards] * len(media), pa.large_string())))
        return pa.concat_tables(tables).combine_chunks()

    def of(self, index: int, row: dict[str, Any], num_frames: int) -> Tensor:
        t, h, w = fitting_size((num_frames, row["latent_h"], row["latent_w"]), self.patch)
        grid = grid_size((t, h, w), self.patch)
        numbers = frames_of_tokens(t, self.patch, int(self.manifest.latents["temporal_stride"]), self.frames)
        frames = self._read(index, row, {number for of_token in numbers for number in of_token})
        stride = int(self.manifest.latents["spatial_stride"])
        pixels = np.stack([frames[number][: h * stride, : w * stride] for of_token in numbers for number in of_token])
        with self._turn():
            maps = self.encoder.patch_features(pixels)  # (n, F, h', w')
        if not np.isfinite(maps).all():
            raise ValueError(f"clip {row['clip_id']}: train.align.encoder gave features that are no numbers")
        features = F.interpolate(torch.from_numpy(maps), grid[1:], mode="bilinear", antialias=True)  # (n, F, h, w)
        of_tokens = [part.mean(0) for part in features.split([len(of_token) for of_token in numbers])]
        return torch.stack(of_tokens).permute(0, 2, 3, 1).flatten(0, 2).half()  # (t h w, F)

    def _read(self, index: int, row: dict[str, Any], numbers: set[int]) -> dict[int, np.ndarray]:
        """Frames of the window that the row's latent shows, by number."""
        media = {name: self._media[name][index].as_py() for name in PLACE}
        where = f"clip {row['clip_id']} in {self._media['root'][index]}/{media['shard']}"
        item = EncodeItem(**media, kind=row["kind"], window=row["window"])
        try:
            opened = self._openers[int(self.manifest.sources[index]), _root(row)].open(item)
            if isinstance(opened, Failure):
                raise ValueError(f"{where}: {opened.kind}: {opened.detail}")
            frames = {number: rgb for number, rgb in enumerate(opened.frames) if number in numbers}
        except MediaError as error:
            raise ValueError(f"{where}: {error}") from error
        self._check_fits(where, row, opened, frames)
        return frames

    def _check_fits(self, where: str, row: dict[str, Any], opened: OpenedClip, frames: dict[int, np.ndarray]) -> None:
        strides = (int(self.manifest.latents[f"{axis}_stride"]) for axis in ("temporal", "spatial"))
        [(height, width)] = {rgb.shape[:2] for rgb in frames.values()}
        temporal, spatial = strides
        found = 1 + (opened.windows[0].num_frames - 1) // temporal, height // spatial, width // spatial
        expected = tuple(row[f"latent_{axis}"] for axis in "thw")
        if found != expected:
            raise ValueError(
                f"{where}: its frames make a latent of (T, H, W) = {found}, and that in {_root(row)} has {expected}: "
                "it is of another clip or of other settings; run `reelpack encode` again"
            )


def _opener(dataset: str, root: str, latents: dict[str, Any]) -> ClipOpener:
    """Opens clips as they were opened for the latents in `root`."""
    fs, path = locate(EncodedLayout(root).record)
    record = json.loads(fs.cat_file(path))
    if "config" not in record:
        raise ValueError(
            f"{root}: its fingerprint.json does not say which frames of a clip the latents show, as that of `reelpack "
            "encode` does: encode with it, or set train.align.kind=pooled"
        )
    reader = MediaConfig(**record.get("media", {})).build()
    reader.setup()
    strides = {f"{axis}_stride": int(latents[f"{axis}_stride"]) for axis in ("temporal", "spatial")}
    return ClipOpener(config_of(record), TarReader(Layout(dataset).shards), reader, **strides)


def _root(row: dict[str, Any]) -> str:
    """Folder of the latents of a row, or of their record, where none are stored."""
    return row["encode"] or row["latents_root"]


def _roots(table: pa.Table) -> Sequence[str]:
    encode, stored = (table[name].cast(pa.string()) for name in ("encode", "latents_root"))
    roots: list[str] = pc.if_else(pc.equal(encode, ""), stored, encode).to_pylist()
    return roots
