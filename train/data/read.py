"""A clip's latent and the states of its captions, each a byte range of a shard."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from curate.shards.tar import PLACE, TarReader, sample_key
from train.autoencoder.stored import FEATURES, PICTURES, drawn, gray_name, lone_at, picture_of, unfit
from train.data.codebook import latents_of, read_codebook
from train.data.conditioning.base import ConditioningSettings
from train.data.manifest import Manifest
from train.data.tasks.base import GrayVideo
from train.packing.patches import fitting_size
from train.packing.shapes import Patch

if TYPE_CHECKING:
    from train.data.encode import Encoder


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipLatent:
    """Tensors of a row, float32.

    Attributes:
        latent: (C, T, H, W).
        lone: (C, n, H, W) of the latent frames that are wanted, their last frames encoded alone; None: none is.
        gray: (C, T, H, W) of the gray video that is wanted; None: none is, or the row is an image.
        picture: (n, D') states of the frames that the gray video has; None: they are not stored, likewise.
    """

    latent: Tensor
    lone: Tensor | None = None
    gray: Tensor | None = None
    picture: Tensor | None = None


class ClipReader:
    """Latents and caption embeddings of a manifest's rows. Latents that are not stored are made on `device`, that of
    the worker; None: the current one."""

    def __init__(self, manifest: Manifest, patch: Patch, device: torch.device | None = None) -> None:
        self.manifest = manifest
        self.device = device
        self.patch = patch
        self._readers: dict[str, TarReader] = {}
        self._codebooks: dict[str, tuple[Tensor, ...]] = {}

    def prepare(self) -> None:
        """Load what encodes latents that were not stored; called before several threads read.

        Raises:
            ValueError: the autoencoder found now is not the one of the fingerprint.
        """
        for folder, shards in _to_encode(self.manifest):
            _encoder(folder, shards, self.device)

    def latent(self, row: dict[str, Any], noise: torch.Generator | None = None) -> Tensor:
        """As `read`, the latent alone."""
        return self.read(row, noise).latent

    def read(
        self,
        row: dict[str, Any],
        noise: torch.Generator | None = None,
        lone_frames: Sequence[int] = (),
        gray: GrayVideo | None = None,
    ) -> ClipLatent:
        """Read, or encoded from the clip; sides are cut to what patches fill.

        Args:
            row: of the manifest.
            noise: draws from the posterior where it is stored; None: its mean.
            lone_frames: latent frames whose last frame is wanted as it is encoded alone, too.
            gray: the gray video that is wanted, too.

        Raises:
            ValueError: the latent is not what the index says, holds NaN or infinities, or lacks what is wanted.
        """
        tensors = self._whole(row, lone_frames, gray)
        latent, shown = self._fitting(drawn(tensors, noise)), None if gray is None else tensors[gray_name(gray)]
        found = ClipLatent(
            latent=latent,
            gray=None if shown is None else self._fitting(shown),
            picture=picture_of(tensors, gray),
        )
        if not lone_frames:
            return found
        try:
            alone = tensors["lone"] if row["encode"] else lone_at(tensors, lone_frames)
        except ValueError as error:
            raise ValueError(f"clip {row['clip_id']} in {row['latents_root']}/{row['shard']}: {error}") from error
        return replace(found, lone=alone[..., : latent.shape[2], : latent.shape[3]])

    def conditioning(
        self, row: dict[str, Any], one: ConditioningSettings, noise: torch.Generator | None = None
    ) -> Tensor:
        """What a row is conditioned on, on the grid of its latent, (C, T, H, W) float32.

        Raises:
            ValueError: as `latent`.
        """
        stored = drawn(self._whole(row[self.manifest.conditioning_column(one.kind)]), noise)
        return self._fitting(one.on_grid(stored, (row["latent_t"], row["latent_h"], row["latent_w"])))

    def _whole(
        self, row: dict[str, Any], lone_frames: Sequence[int] = (), gray: GrayVideo | None = None
    ) -> dict[str, Tensor]:
        """Tensors by name, as they are stored, float32."""
        where = f"{row['latents_root']}/{row['shard']}"
        if row["encode"]:
            tensors = _encoder(row["encode"], row["latents_root"], self.device).tensors(row, lone_frames)
        else:
            tensors = self._stored(row, where)
        wanted = ["latent", "logvar", *(["lone"] if lone_frames else [])]
        if gray is not None:
            wanted += [gray_name(gray), PICTURES]
            if gray_name(gray) not in tensors:
                raise ValueError(f"clip {row['clip_id']} in {where}: got no {gray_name(gray)}; encode it again")
        tensors = {name: tensors[name].float() for name in wanted if name in tensors}
        c, t, *sides = self.manifest.channels, row["latent_t"], row["latent_h"], row["latent_w"]
        num_lone = len(tensors["lone"][0]) if "lone" in tensors else 0
        for name, tensor in tensors.items():
            expected = tuple(tensor.shape) if name == PICTURES else (c, num_lone if name == "lone" else t, *sides)
            if tuple(tensor.shape) != expected or not _is_finite(tensor):
                found = unfit(tensor) or "finite values"
                raise ValueError(
                    f"clip {row['clip_id']} in {where}: got a {name} of shape {tuple(tensor.shape)} with {found}; "
                    f"expected {expected} and finite values; encode it again"
                )
        return tensors

    def _fitting(self, latent: Tensor) -> Tensor:
        t, h, w = fitting_size(latent.shape[1:], self.patch)
        return latent[:, :t, :h, :w]

    def _stored(self, row: dict[str, Any], where: str) -> dict[str, Tensor]:
        payload, root = self._read(row["latents_root"], row, ""), row["latents_root"]
        tensors = _tensors(payload, row["clip_id"], where)
        if "ids" in tensors:
            try:
                return latents_of(tensors, self._codebook(root))
            except ValueError as error:
                raise ValueError(f"clip {row['clip_id']} in {where}: {error}") from error
        if "latent" not in tensors:
            raise ValueError(
                f"clip {row['clip_id']} in {where}: its index points at no safetensors of a latent (there are "
                f"{', '.join(tensors)}); encode again"
            )
        return tensors

    def _codebook(self, root: str) -> tuple[Tensor, ...]:
        if root not in self._codebooks:
            self._codebooks[root] = read_codebook(root)
        return self._codebooks[root]

    def features(self, row: dict[str, Any]) -> Tensor:
        """(T, F, h, w) float16: maps of an image encoder, one for each latent frame (`encode.features`).

        Raises:
            ValueError: they are not stored, or not of this latent.
        """
        where = f"{row['latents_root']}/{row['shard']}"
        found = _tensors(self._read(row["latents_root"], row, ""), row["clip_id"], where).get(FEATURES)
        if found is None or len(found) != row["latent_t"]:
            got = "none" if found is None else f"those of {len(found)} frames"
            raise ValueError(
                f"clip {row['clip_id']} in {where}: got {got}, expected features of {row['latent_t']} latent frames; "
                "encode it again"
            )
        return found

    def captions(self, row: dict[str, Any]) -> dict[str, Tensor]:
        """Token states (n, D_text) by caption kind, in the type they are stored in; none where there is no caption."""
        if row["text_shard"] is None:
            return {}
        where = f"{row['text_root']}/{row['text_shard']}"
        payload = self._read(row["text_root"], row, "text_")
        tensors = _tensors(payload, row["clip_id"], where)
        for kind, tokens in tensors.items():
            if tokens.ndim != 2 or tokens.shape[1] != self.manifest.text_dim:
                raise ValueError(
                    f"clip {row['clip_id']} in {where}: got {kind} states of shape {tuple(tokens.shape)}, expected "
                    f"(n, {self.manifest.text_dim}): another encoder's; embed them again"
                )
        return {kind: tokens for kind, tokens in tensors.items() if len(tokens)}

    def _read(self, root: str, row: dict[str, Any], prefix: str) -> bytes:
        """The member that the columns with this prefix point at."""
        clip_id = row["clip_id"]
        shard, offset, size, digest = (row[f"{prefix}{name}"] for name in PLACE)
        if root not in self._readers:
            self._readers[root] = TarReader(root)
        try:
            key = clip_id if prefix else sample_key(row)
            return self._readers[root].read(shard, offset, size, key=key, digest=digest)
        except FileNotFoundError as error:
            raise ValueError(f"clip {clip_id}: {root}/{shard} is not there any more; put it back") from error
        except ValueError as error:
            raise ValueError(f"clip {clip_id}: {error}") from error


def _to_encode(manifest: Manifest) -> set[tuple[str, str]]:
    """Folders of latents that were not stored, each with that of the clips."""
    names = ("encode", "latents_root")
    tables = [pa.table({name: table[name].cast(pa.string()) for name in names}) for table in manifest.latent_tables]
    pairs = pa.concat_tables(tables).group_by(list(names)).aggregate([]).to_pylist()
    return {(pair["encode"], pair["latents_root"]) for pair in pairs if pair["encode"]}


def _encoder(folder: str, shards: str, device: torch.device | None) -> "Encoder":
    from train.data.encode import encoder  # brings decoders, which stored latents do not need

    return encoder(folder, shards, device)


def _is_finite(latent: Tensor) -> bool:
    """No NaN or infinity is in it. A sum shows either, ten times as fast; one too large is looked at."""
    return bool(latent.sum().isfinite()) or bool(latent.isfinite().all())


def _tensors(payload: bytes, clip_id: str, where: str) -> dict[str, Tensor]:
    try:
        return load_safetensors(payload)
    except SafetensorError as error:
        raise ValueError(
            f"clip {clip_id} in {where}: its index points at no safetensors ({error}); encode again"
        ) from error
