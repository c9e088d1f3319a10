"""Do index and tars agree? Every row points at a readable member, and every member is known."""

import tarfile
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from curate.shards.tar import list_members, sample_key
from curate.storage.place import locate


def verify_index(root: str, rows: Iterable[Mapping[str, Any]], unindexed: Collection[str] = ()) -> list[str]:
    """Compare index rows with the tars in `root`; returns one sentence per disagreement, none if all is well.

    Only the tars' headers are read.

    Args:
        root: folder of the shards, a local path or URL.
        rows: index rows with `clip_id, shard, ext, offset, size`.
        unindexed: ids that may stand in a tar without a row (clips that a later policy rejected).
    """
    fs, path = locate(root)
    expected: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for row in rows:
        expected[row["shard"]][f"{sample_key(row)}.{row['ext']}"] = (row["offset"], row["size"])
    problems = []
    present = {name.rpartition("/")[2] for name in fs.ls(path, detail=False) if name.endswith(".tar")}
    problems += [f"{shard}: the index points at it, but it is not in {root}" for shard in expected.keys() - present]
    for shard in sorted(present):
        try:
            with fs.open(f"{path}/{shard}", "rb") as file:
                members = {name: (offset, size) for name, offset, size in list_members(file)}
        except tarfile.TarError as error:
            problems.append(f"{shard}: no readable tar ({error})")
            continue
        for name, place in expected[shard].items():
            if members.get(name) != place:
                problems.append(f"{shard}: the index has {name} at {place}, the tar has it at {members.get(name)}")
        media = {name for name in members if not name.endswith(".json")}
        keys = {name: name.split(".")[0] for name in media - expected[shard].keys()}
        # Of a clip, or of a later window of one.
        unknown = {name for name, key in keys.items() if not {key, key.rpartition("-")[0]} & set(unindexed)}
        problems += [f"{shard}: member {name} is in no row of the index" for name in sorted(unknown)]
    return problems
