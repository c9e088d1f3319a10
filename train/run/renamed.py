"""Settings of a run that have another name now: an old one is refused, and the error names the new one. A saved run
with `dense_probability` is read: a blend draws captions with the same shares."""

from collections.abc import Iterator, Mapping
from typing import Any

RENAMED = {
    "data.extra_dropout": "data.condition_dropout",
    "parallel.recompute_every": "parallel.activation_checkpoint_every",
    "validation.every": "evaluate.held_out.every",
    "validation.first": "evaluate.held_out.first",
    "validation.timesteps": "evaluate.held_out.timesteps",
    "validation.max_clips": "evaluate.held_out.max_clips",
    "validation.duration_edges_s": "evaluate.held_out.duration_edges_s",
    "validation.resolution_edges_px": "evaluate.held_out.resolution_edges_px",
    "validation.caption_every": "evaluate.captions.every",
    "validation.max_caption_clips": "evaluate.captions.max_clips",
    "validation.sample_every": "evaluate.samples.every",
    "validation.num_samples": "evaluate.samples.num_samples",
    "validation.sample_steps": "evaluate.samples.num_steps",
    "validation.sample_guidance": "evaluate.samples.guidance",
}
"""Old key below `train`: new key."""

DENSE = "data.dense_probability"
"""Below `train`: the share of dense captions, the rest being short, is `data.blend` now."""

RENAMED_VALUES = {
    "parallel.mode": {"replicate": "ddp", "shard": "fsdp"},
}
"""Key below `train`: old value: new value."""


def refuse_renamed(settings: Any) -> Any:
    """`settings`, a tree of mappings or anything else, as it is.

    Raises:
        ValueError: it has old keys or values, a line each.
    """
    given = dict(_leaves(settings, "")) if isinstance(settings, Mapping) else {}
    found = [f"train.{old} is now train.{new}" for old, new in RENAMED.items() if old in given]
    for key, values in RENAMED_VALUES.items():
        if (new := values.get(str(given.get(key)))) is not None:
            found.append(f"train.{key}={given[key]} is now train.{key}={new}")
    if (share := given.get(DENSE)) is not None:
        found.append(f"train.{DENSE}={share} is now train.data.blend={{dense: {share}, short: {_rest(share)}}}")
    if found:
        raise ValueError("\n".join(found))
    return settings


def upgraded(saved: Any) -> Any:
    """Settings of a saved run, with the blend that draws what `dense_probability` did. The one exception are clips of
    one level where the probability of that level is 0: a blend gives them no caption."""
    data = saved.get("data") if isinstance(saved, Mapping) else None
    if not isinstance(data, Mapping) or "dense_probability" not in data:
        return saved
    share = data["dense_probability"]
    rest = {name: value for name, value in data.items() if name != "dense_probability"}
    return {**saved, "data": {"blend": {"dense": share, "short": _rest(share)}, **rest}}


def _rest(share: Any) -> Any:
    """What is left of 1."""
    return round(1 - share, 12) if isinstance(share, int | float) else share


def _leaves(tree: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """Dotted path and value of every key, those of sections too."""
    for name, value in tree.items():
        yield f"{path}{name}", value
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{name}.")
