"""Which stored latent of a clip conditions which: known from the indices alone."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from train.data.compact import plain_columns
from train.data.conditioning.base import ConditioningSettings, Extent
from train.data.fingerprint import of_space
from train.data.manifest import Manifest, read_manifest, stored_fingerprints

logger = logging.getLogger(__name__)


def with_conditioning(manifest: Manifest, settings: Sequence[ConditioningSettings], split: str) -> Manifest:
    """The manifest of one dataset with a column for each conditioning latent, of the rows that have all of them.

    Raises:
        ValueError: no training clip has what it is to be conditioned on; the message says how it is encoded.
    """
    if not settings:
        return manifest
    [part] = manifest.parts
    for one in settings:
        names = of_space(part.url, manifest.latents) if one.latents == "auto" else one.latents
        others = read_manifest(part.url, split=split, patch=(1, 1, 1), latents=names, text="none", allow_empty=True)
        kept = [name for name in others.table.column_names if not name.startswith("text_")]
        rows = plain_columns(others.table, kept)
        numbers = _numbers(one, plain_columns(manifest.table, kept), rows)
        found = np.flatnonzero(numbers >= 0)
        if lacking := len(manifest) - len(found):
            told = (
                f"{part.url}: {lacking} of {len(manifest)} {split} latents have none of the clip to be conditioned on "
                f"({one.kind}, factor {one.frame_step * one.side_factor:g})"
            )
            if not len(found) and split == "train":
                names = ", ".join(stored_fingerprints(others.table)) or "none"
                raise ValueError(
                    f"train.data.conditioning: {told}; it has latents {names}. "
                    f"Encode again with another {one.remedy}; then name those to train on in train.data.latents"
                )
            logger.warning("%s; they are left out", told)
        column = rows.take(numbers[found]).to_struct_array().combine_chunks()
        manifest = manifest.of_rows(found)
        table = manifest.table.append_column(Manifest.conditioning_column(one.kind), column)
        manifest = replace(manifest, table=table, conditioning=(*manifest.conditioning, one))
    return manifest


def _numbers(settings: ConditioningSettings, own: pa.Table, others: pa.Table) -> np.ndarray:
    """For each row of `own` that of `others` which conditions it, -1 for none: (N,) int64."""
    mine, theirs = (
        pa.table({"clip": table["clip_id"], side: np.arange(table.num_rows)})
        for side, table in (("mine", own), ("theirs", others))
    )
    pairs = mine.join(theirs, "clip", join_type="inner").sort_by([("mine", "ascending"), ("theirs", "ascending")])
    i, j = pairs["mine"].to_numpy(), pairs["theirs"].to_numpy()
    distance = settings.distance(_extent(own.take(i)), _extent(others.take(j)))
    fits = np.isfinite(distance)
    order = np.lexsort((j[fits], distance[fits], i[fits]))
    rows, first = np.unique(i[fits][order], return_index=True)
    numbers = np.full(own.num_rows, -1, np.int64)
    numbers[rows] = j[fits][order][first]
    return numbers


def _extent(table: pa.Table) -> Extent:
    is_video = table["kind"].to_numpy() != "image"
    fps = np.where(is_video, table["fps"].fill_null(0.0).to_numpy(), 0.0)
    frames, rows, columns = (table[f"latent_{axis}"].to_numpy() for axis in "thw")
    return Extent(
        frames=frames,
        rows=rows,
        columns=columns,
        fps=fps,
        start_s=np.divide(table["start_frame"].to_numpy(), fps, out=np.zeros(len(fps)), where=fps > 0),
    )
