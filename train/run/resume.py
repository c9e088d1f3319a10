"""A run's folder: started new, or continued by the run that it holds and by no other."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from curate.dataset.forgotten import FORGOTTEN
from curate.dataset.layout import Layout
from curate.dataset.table import TableReader
from curate.storage.place import AnyPath
from curate.storage.publish import write_text
from curate.storage.yaml_text import to_yaml
from train.data.space import described_latents, differing
from train.run.checkpoint import list_checkpoints
from train.run.config import TrainConfig
from train.run.folder import RunRecord, read_run

FREE_ON_RESUME = (
    "steps",
    "device",
    "max_skipped_steps",
    "evaluate",
    "checkpoint",
    "parallel",
    "log",
    "data.prefetch_steps",
    "data.latents",
    "data.text",
    "model.mixer.kernel",
    "optimizer",
)
"""Settings that a continued run may change: they do not say what is learned (`steps` moves the end of a cosine, and
kernels of attention differ in the last bits; `data.latents` and `data.text` choose what the run was trained on, by the
fingerprints in its record), or they repair a run that diverged. `run.json` tells them."""
FIXED = ("optimizer.kind",)
"""Settings among them that say what a checkpoint holds."""


def open_run(out: AnyPath, config: TrainConfig, record: RunRecord, *, write: bool) -> None:
    """Write the identity of a new run, or check that of one that continues.

    Raises:
        ValueError: the folder holds a run of another configuration or other latents.
    """
    if checkpoints := list_checkpoints(out / "checkpoints"):
        before, changed = _check_same(out, config, record)
        changes = [{"after": checkpoints[-1].name, "settings": changed}] if changed else []
        record = replace(record, changes=(*before.changes, *changes))
    elif (out / "config.yaml").exists() and not (out / "run.json").exists():
        raise ValueError(f"{out} holds something else than a run (a config.yaml without run.json); train elsewhere")
    if write:
        out.mkdir(parents=True, exist_ok=True)
        # In this order: a config.yaml alone is taken for something else's, by other ranks and after a kill.
        write_text(str(out / "run.json"), json.dumps(asdict(record), indent=2) + "\n")
        write_text(str(out / "config.yaml"), to_yaml(config.model_dump(mode="json"), sort_keys=False))


def _check_same(out: AnyPath, config: TrainConfig, record: RunRecord) -> tuple[RunRecord, dict[str, str]]:
    """The record of the run until now, and which of its settings are to change."""
    old_config, old_record = read_run(out)
    old, new = _flat(old_config.model_dump(mode="json")), _flat(config.model_dump(mode="json"))
    changed = {key: f"{old.get(key)!r} → {new[key]!r}" for key in new if old.get(key) != new[key]}
    moved = ("init",) if record.base is not None and old_record.base is not None else ()
    free = [key for key in changed if (key.startswith(FREE_ON_RESUME) and key not in FIXED) or key in moved]
    if refused := [key for key in changed if key not in free]:
        differences = ", ".join(f"{key}: {changed[key]}" for key in refused)
        raise ValueError(f"{out} holds a run of another configuration ({differences}); set it back or train elsewhere")
    if old_record.base is not None and record.base is not None:
        _check_same_base(out, old_record.base, record.base)
    _check_same_space(out, old_record.latents, record.latents)
    if len(record.datasets) == 1 and old_record.latents["fingerprint"] != record.latents["fingerprint"]:
        raise ValueError(
            f"{_told(out, old_record.latents, record.latents)}, of the same space; set "
            f"train.data.latents={_setting(old_record.latents)}, or begin another run with the weights of this one: "
            f"`reelpack train-export {out} --out MODEL`, then train.init=MODEL"
        )
    _check_same_datasets(out, old_record.datasets, record.datasets)
    if old_record.labels != record.labels:
        raise ValueError(
            f"{out} was trained on the classes {old_record.labels}, the datasets now have {record.labels}; set "
            f"train.data.labels to the former (new names at their end) or train elsewhere"
        )
    before, now = (one.text["fingerprint"] for one in (old_record, record))
    if before != now:
        raise ValueError(
            f"{out} was trained on text {before}, the dataset now gives {now}; set train.data.text={before} or train "
            "elsewhere"
        )
    if old_record.conditioning != record.conditioning:
        raise ValueError(
            f"{out} was conditioned on {old_record.conditioning}, the dataset now gives {record.conditioning}; name "
            "the former latents in train.data.conditioning, or train elsewhere"
        )
    if old_record.embedding != record.embedding:
        raise ValueError(
            f"{out} was aligned to {old_record.embedding}, dataset and weights now give {record.embedding}; put back "
            "that score family (train.align.embedding) or the weights of that encoder (train.align.encoder), or "
            "train elsewhere"
        )
    return old_record, changed


def _check_same_space(out: AnyPath, before: dict[str, Any], now: dict[str, Any]) -> None:
    if different := differing(before, now):
        raise ValueError(
            f"{_told(out, before, now)}: another latent space ({', '.join(different)} differ), in which its model "
            f"knows nothing. Set train.data.latents={_setting(before)} where the dataset still has them, or encode "
            "with that autoencoder again; or train elsewhere. To take the model to the new space: `reelpack "
            f"train-export {out} --out MODEL`, then train.init=MODEL and train.init_latents=other"
        )


def _check_same_base(out: AnyPath, before: dict[str, Any], now: dict[str, Any]) -> None:
    """The base may have moved."""
    if before["sha256"] != now["sha256"]:
        raise ValueError(
            f"{out} adapts a base of fingerprint {before['sha256'][:12]} (then {before['folder']}), and train.init="
            f"{now['folder']} has {now['sha256'][:12]}; set train.init to the folder of that base, or train elsewhere"
        )


def _told(out: AnyPath, before: dict[str, Any], now: dict[str, Any]) -> str:
    return f"{out} was trained on latents {described_latents(before)}, the dataset now gives {described_latents(now)}"


def _setting(latents: dict[str, Any]) -> str:
    name = str(latents["fingerprint"])
    return f"[{name.replace('+', ', ')}]" if "+" in name else name  # latents of several sizes


def _check_same_datasets(out: AnyPath, old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> None:
    """A dataset alone may have moved; of several, names say which is which."""
    names, new_names = ([part["name"] for part in parts] for parts in (old, new))
    if len(names) != len(new_names) or (len(names) > 1 and names != new_names):
        raise ValueError(
            f"{out} was trained on {', '.join(names)}, got {', '.join(new_names)}; name the same datasets, or train "
            "elsewhere"
        )
    for before, now in zip(old, new, strict=True):
        for kind in ("latents", "text") if len(old) > 1 else ():
            if before.get(kind, now[kind]) != now[kind]:
                raise ValueError(
                    f"{out} was trained on {kind} {before[kind]} of {now['url']}, which now gives {now[kind]}; put "
                    "them back, or train elsewhere"
                )
        if before.get("sha256", now["sha256"]) != now["sha256"]:
            gone, remedy = _num_forgotten(now["url"]), "Put the dataset back as it was, or begin"
            if gone:
                remedy = f"{gone} videos were forgotten there, which its weights can have learned from. Begin"
            raise ValueError(
                f"{out} was trained on {before['train_clips']} clips of {now['url']}, which now has other ones "
                f"({now['train_clips']}), of other sizes or other weights: its plan would be another. {remedy} "
                f"another run with the weights of this one: `reelpack train-export {out} --out MODEL`, then "
                "train.init=MODEL"
            )


def _num_forgotten(dataset: str) -> int:
    """Files of a dataset that were taken down."""
    stones = TableReader(Layout(dataset).table("forgotten"), FORGOTTEN, ("uri", "video_id"))
    return int(stones.read(["is_done"]).num_rows)


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
