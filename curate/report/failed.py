"""Which clips a step failed on, as the policy sees it: a clip that a rule rejects may have failed as well, and does so
as soon as the rule is loosened."""

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from curate.cut import ShardConfig
from curate.scores.score import STEP as SCORE_STEP
from curate.store import Table


def failed_clips(url: str, made_with: Mapping[str, Any], failures: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Clip id → the step that failed on it as a whole, under the settings that the dataset was last curated with.

    Args:
        url: the dataset.
        made_with: section `curate` of config.yaml.
        failures: rows of tables/failures.
    """
    if "families" not in made_with:
        return {}
    decoding, cut_key = "+".join(made_with["families"]), ShardConfig.model_validate(made_with["shards"]).key
    undecodable = {row["subject"] for row in failures if (row["step"], row["key"]) == (SCORE_STEP, decoding)}
    if undecodable and decoding:  # what failed once may have been scored since
        first, *others = ({clip for (clip,) in _ids(f"{url}/tables/scores/{name}")} for name in made_with["families"])
        undecodable -= first.intersection(*others)
    failed = dict.fromkeys(undecodable, "score")
    uncut = {row["subject"] for row in failures if row["key"] == cut_key}
    if uncut:
        shards = _ids(f"{url}/tables/shards", "cut_key")
        uncut -= {clip_id for clip_id, key in shards if key == cut_key}
    return failed | dict.fromkeys(uncut, "cut")


def unscored_clips(
    url: str, made_with: Mapping[str, Any], failures: Iterable[Mapping[str, Any]]
) -> dict[str, set[str]]:
    """Column → ids of the clips that its scorer failed on and that have no value by now."""
    unscored: dict[str, set[str]] = {}
    for family in made_with.get("families", ()):
        subjects = {row["subject"] for row in failures if row["key"] == family}
        if subjects:
            folder = f"{url}/tables/scores/{family}"
            subjects -= {clip_id for (clip_id,) in _ids(folder)}
            for column in _columns(folder):
                unscored.setdefault(column, set()).update(subjects)
    return unscored


def _ids(folder: str, *others: str) -> list[tuple[str, ...]]:
    names = ["clip_id", *others]
    table = Table(folder, pa.schema([(name, pa.string()) for name in names]), names).read()
    return list(zip(*(table[name].to_pylist() for name in names), strict=True))


def _columns(folder: str) -> list[str]:
    """The columns of a score family as stored."""
    fs, path = url_to_fs(folder)
    parts = sorted(fs.glob(f"{path}/part-*.parquet"))
    return [name for name in pq.read_schema(parts[0], filesystem=fs).names if name != "clip_id"] if parts else []
