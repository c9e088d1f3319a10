"""What can be known of the shards before the first step: each is there and as long as its index says (one listing of
their folder), and some are read from, so that shards and an index that do not belong together are found.

What else is wrong with a clip is found when it is read, by the same checks.
"""

import logging
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from curate.dataset.layout import is_folder_of_clips
from curate.storage.place import locate
from train.data.compact import plain_columns
from train.data.manifest import Manifest
from train.data.plan import PlanConfig
from train.data.read import ClipReader
from train.distributed.ranks import RankGrid
from train.model.config import ModelConfig
from train.packing.shapes import Patch

logger = logging.getLogger(__name__)

MAX_READ_SHARDS = 64
"""Shards of a manifest that a clip is read from, spread evenly."""
MAX_NAMED = 5


def check_data(manifests: Sequence[Manifest], patch: Patch, ranks: RankGrid) -> None:
    """Check the shards of these manifests, dealt over the ranks; every rank raises what one has found.

    Raises:
        ValueError: names shards, clips and what to do.
    """
    if ranks.is_main:
        _warn_of_leaks(manifests)
    found = [problem for manifest in manifests for problem in problems(manifest, patch, ranks)]
    of_all = [problem for of_rank in ranks.all_gather_object(found) for problem in of_rank]
    if of_all:
        more = [f"… and {len(of_all) - MAX_NAMED} more"] if len(of_all) > MAX_NAMED else []
        raise ValueError("\n".join([*of_all[:MAX_NAMED], *more]))


def _warn_of_leaks(manifests: Sequence[Manifest]) -> None:
    """Datasets may hold out different clips."""
    for one, other in combinations(manifests, 2):
        both = np.flatnonzero(np.isin(one.keys, other.keys))
        if len(both):
            logger.warning(
                "%d clips are trained on and held out, such as %s: validation does not tell the truth about them",
                len(both),
                one.row(int(both[0]), ["clip_id"])["clip_id"],
            )


def check_positions(manifests: Sequence[Manifest], model: ModelConfig, plan: PlanConfig) -> None:
    """Check that learned positions cover all clips, of training and of the held-out split.

    Raises:
        ValueError: names one that they do not reach.
    """
    for is_held_out, manifest in enumerate(manifests):
        grids = torch.from_numpy(manifest.grids).long()
        if plan.oversize == "crop" and not is_held_out:
            most = (plan.token_budget // (grids[:, 1] * grids[:, 2])).clamp(min=1)
            grids = torch.cat([grids[:, :1].minimum(most[:, None]), grids[:, 1:]], dim=1)
        fps = manifest.column("fps").fill_null(0.0).to_numpy() * (manifest.column("kind").to_numpy() != "image")
        latent_fps = torch.from_numpy(fps).float() / int(manifest.latents["temporal_stride"])
        model.check_grids(manifest.clip_ids, grids, latent_fps)


def warn_of_islands(manifest: Manifest, model: ModelConfig) -> None:
    """Say so where a clip's patches do not all hear of each other: of the longest and largest, and of images."""
    for is_image in (False, True):
        grids = manifest.grids[(manifest.grids[:, 0] == 1) == is_image]
        if len(grids) and (reason := model.islands(grid := tuple(grids.max(0).tolist()))):
            logger.warning(
                "clips of up to %d x %d x %d patches are cut into parts that never exchange features: %s",
                *grid,
                reason,
            )


def problems(manifest: Manifest, patch: Patch, ranks: RankGrid) -> Iterator[str]:
    """What is wrong with this rank's part of a manifest's shards, a sentence each."""
    damaged = False
    latents = ((table, "", "latents_root") for table in manifest.latent_tables)
    for table, prefix, root in (*latents, (manifest.table, "text_", "text_root")):
        for problem in wrong_sizes(table, root, prefix, ranks.rank, ranks.world_size):
            damaged = True
            yield problem
    if not damaged:
        yield from _unreadable(manifest, patch, ranks)


def wrong_sizes(table: pa.Table, root: str, prefix: str, rank: int, num_ranks: int) -> Iterator[str]:
    """What is wrong with shards, a sentence each.

    Args:
        table: `clip_id`, and the columns `shard`, `offset` and `size` with a prefix.
        root: its column of folders.
        prefix: of the columns.
        rank: looks at its part of the shards.
        num_ranks: that look.
    """
    names = [f"{prefix}{name}" for name in ("shard", "offset", "size")]
    places = plain_columns(table, ["clip_id", root, *names]).rename_columns(
        ["clip_id", "root", "shard", "offset", "size"]
    )
    places = places.filter(pc.is_valid(places["shard"])).combine_chunks()
    places = places.set_column(1, "root", places["root"].cast(pa.string()))
    places = places.append_column("end", pc.add(places["offset"], places["size"]))
    shards = places.group_by(["root", "shard"]).aggregate([("end", "max"), ("end", "count")])
    shards = shards.sort_by([("root", "ascending"), ("shard", "ascending")]).to_pylist()
    listed = {folder: _sizes(folder) for folder in sorted({shard["root"] for shard in shards})}
    for shard in shards[rank::num_ranks]:
        folder, name, end = shard["root"], shard["shard"], shard["end_max"]
        size = listed[folder].get(name)
        if size is not None and size >= end:
            continue
        of_shard = places.filter(pc.and_(pc.equal(places["root"], folder), pc.equal(places["shard"], name)))
        clip = of_shard.filter(pc.equal(of_shard["end"], end))["clip_id"][0].as_py()
        remedy = "put it back"
        if not is_folder_of_clips(folder):
            remedy += f", or remove {folder} and run `reelpack encode` again"
        if size is None:
            count = shard["end_count"]
            yield f"{folder}/{name}: no such shard; the index has {count} clips there, such as {clip}; {remedy}"
        else:
            yield (
                f"{folder}/{name}: got {size} bytes, and clip {clip} is said to end at byte {end}: the shard is "
                f"truncated, or of another index; {remedy}"
            )


def _sizes(folder: str) -> dict[str, int]:
    """Bytes of each file by name."""
    fs, path = locate(folder)
    return {entry["name"].rstrip("/").rpartition("/")[2]: entry["size"] for entry in fs.ls(path, detail=True)}


def _unreadable(manifest: Manifest, patch: Patch, ranks: RankGrid) -> Iterator[str]:
    """Reads one clip of some shards."""
    reader = ClipReader(manifest, patch, ranks.device)
    for row in _spread(_one_per_shard(manifest.table))[ranks.rank :: ranks.world_size]:
        clip = manifest.row(row)
        try:
            reader.latent(clip)
            for one in manifest.conditioning:
                reader.conditioning(clip, one)
            reader.captions(clip)
        except (OSError, ValueError) as error:
            yield str(error)


def _one_per_shard(table: pa.Table) -> list[int]:
    """The first row of each shard of latents or of text."""
    rows: set[int] = set()
    for names in (("latents_root", "shard"), ("text_root", "text_shard")):
        column = [table[name].cast(pa.string()) for name in names]
        places = pa.table({"place": pc.binary_join_element_wise(*column, "/"), "row": np.arange(table.num_rows)})
        rows |= set(places.group_by("place").aggregate([("row", "min")])["row_min"].to_pylist())
    return sorted(rows)


def _spread(rows: list[int]) -> list[int]:
    if len(rows) <= MAX_READ_SHARDS:
        return rows
    return [rows[i] for i in np.linspace(0, len(rows) - 1, MAX_READ_SHARDS).round().astype(int).tolist()]
