"""Fingerprints: the folders of latents and of text embeddings, each named by what its values depend on."""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from curate.dataset.layout import Encoded, EncodedLayout, Layout
from curate.errors import Missing, NotADataset
from curate.storage.place import children, locate
from train.data.space import LATENT_SPACE, described_latents, differing
from train.data.tasks.base import FEWEST_FIRST, StoredLoneFrames

LATENTS_VERSION = 2
"""Raised when the same settings give other latents. Those of version 1 may be scrambled: arrays that an autoencoder
gave with its channels last were stored in the order of their memory."""

OR_SEVERAL = {"latents": ", or to a list of them", "text": ""}
REQUIRED = {"latents": "channels", "text": "dim"}
"""What training needs of a fingerprint.json."""
NO_TEXT: Mapping[str, Any] = MappingProxyType({"fingerprint": "none", "dim": 1})
"""The text record of a run whose clips have no captions: a pack holds a row of one zero for each of them."""


def fingerprints(dataset: str, names: str | Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """Folder and record of each fingerprint of latents that is asked for, sorted."""
    if names == "all":
        names = (
            _current(dataset, "latents", _found(dataset, "latents")) or "auto"
        )  # where there is none, "auto" says so
    names = [names] if isinstance(names, str) else sorted(set(names))
    return [fingerprint(dataset, "latents", name) for name in names]


def text_fingerprint(dataset: str, name: str) -> tuple[str, dict[str, Any]]:
    """As `fingerprint`; no folder and `NO_TEXT` for "none", and for "auto" where nothing is embedded."""
    if name == NO_TEXT["fingerprint"] or (name == "auto" and not _found(dataset, "text")):
        return "", dict(NO_TEXT)
    return fingerprint(dataset, "text", name)


def text_or_none(dataset: str, name: str) -> str:
    """The name of text embeddings; "none" where the dataset does not have them."""
    return name if name == "auto" or name in _found(dataset, "text") else str(NO_TEXT["fingerprint"])


def fingerprint(dataset: str, kind: Encoded, name: str, setting: str | None = None) -> tuple[str, dict[str, Any]]:
    """Folder and record of one fingerprint below `dataset`/`kind`.

    Args:
        dataset: local path or fsspec URL.
        kind: "latents" or "text".
        name: of the fingerprint, or "auto" for the only one.
        setting: the option that named it, for messages; None: `train.data`.

    Raises:
        Missing: nothing is encoded.
        ValueError: there is no such fingerprint, several for "auto", or it is damaged, renamed or outdated.
    """
    found = _found(dataset, kind)
    if name == "auto" and len(current := _current(dataset, kind, found) or found) == 1:
        name = current[0]
    if name not in found:
        problem = "there is none" if not found else f"there are {_listed(dataset, kind, found)}"
        remedy = (
            f"run `reelpack encode {dataset}`"
            if not found
            else f"give {setting} one of them"
            if setting
            else f"set train.data.{kind} to one of them{OR_SEVERAL[kind]}"
        )
        given = f"{setting} {name}" if setting else f"train.data.{kind}={name!r}"
        error = ValueError if found else Missing
        raise error(f"{Layout(dataset).encoded_root(kind)}: got {given}, and {problem}; {remedy}")
    layout = Layout(dataset).encoded(kind, name)
    folder = layout.url
    try:
        fs, path = locate(layout.record)
        record = json.loads(fs.cat_file(path))
        found_name = record["fingerprint"]
        record[REQUIRED[kind]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{layout.record}: not a record of {kind} ({type(error).__name__}: {error}); put it back, or "
            f"remove {folder} and run `reelpack encode {dataset}`"
        ) from error
    if found_name != name:
        raise ValueError(
            f"{layout.record}: got fingerprint {found_name!r}, expected {name!r}, the folder's name; the "
            "folder was renamed or mixed: encode again"
        )
    if kind == "latents" and is_outdated(record):
        raise ValueError(
            f"{folder}: latents of version {record['version']}, which an earlier reelpack wrote and which may be "
            f"scrambled; expected version {LATENTS_VERSION}: run `reelpack encode {dataset}`, then remove the folder"
        )
    return folder, record


def is_outdated(record: dict[str, Any]) -> bool:
    """Whether latents of this fingerprint.json must be made again. Other tools' records have no version."""
    return bool(record.get("version", LATENTS_VERSION) < LATENTS_VERSION)


def of_space(dataset: str, record: dict[str, Any]) -> list[str]:
    """Fingerprints of all latents of the dataset that are in the space of these."""
    records = {name: read_record(Layout(dataset).encoded("latents", name)) for name in _found(dataset, "latents")}
    return [name for name, one in records.items() if one and not is_outdated(one) and not differing(record, one)]


def joined(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One record of latents of one space.

    Raises:
        ValueError: they do not.
    """
    for record in records[1:]:
        if different := [name for name in LATENT_SPACE if record.get(name) != records[0].get(name)]:
            raise ValueError(
                f"train.data.latents: {described_latents(records[0])} and {described_latents(record)} differ in "
                f"{', '.join(different)}; a run needs latents of one autoencoder"
            )
    fewest = min(map(stored_lone_frames, records), key=FEWEST_FIRST.index)
    return {
        **records[0],
        "fingerprint": "+".join(record["fingerprint"] for record in records),
        "lone_frames": fewest,
        "gray": [kind for kind in stored_gray(records[0]) if all(kind in stored_gray(record) for record in records)],
        **{name: _common(name, records) for name in ("picture", "features")},
    }


def _common(name: str, records: Sequence[dict[str, Any]]) -> Any:
    """What all records say; None where they differ."""
    found = records[0].get(name)
    return found if all(record.get(name) == found for record in records) else None


def _listed(dataset: str, kind: Encoded, names: Sequence[str]) -> str:
    if kind == "text":
        return ", ".join(names)
    records = (read_record(Layout(dataset).encoded(kind, name)) or {"fingerprint": name} for name in names)
    return ", ".join(map(described_latents, records))


def is_stored(record: dict[str, Any]) -> bool:
    """Whether latents of this fingerprint.json are in shards; else training encodes (`encode.store`)."""
    return bool(record.get("config", {}).get("store", True))


def stored_lone_frames(record: dict[str, Any]) -> StoredLoneFrames:
    """Which frames of a fingerprint.json of latents training has as they are encoded alone (`encode.lone_frames`)."""
    if "lone_frames" in record:  # of several latents
        found: StoredLoneFrames = record["lone_frames"]
    else:
        found = record.get("config", {}).get("lone_frames", "none") if is_stored(record) else "all"
    return found


def stored_gray(record: dict[str, Any]) -> list[str]:
    """Which gray videos of clips training has, by a fingerprint.json of latents (`encode.gray`)."""
    found: list[str] = record["gray"] if "gray" in record else record.get("config", {}).get("gray", [])
    return found


def _current(dataset: str, kind: Encoded, names: Sequence[str]) -> list[str]:
    """Those that are not outdated; what cannot be read is among them, and is refused by name."""
    if kind != "latents":
        return list(names)
    return [name for name in names if not is_outdated(read_record(Layout(dataset).encoded(kind, name)) or {})]


def read_record(folder: EncodedLayout) -> dict[str, Any] | None:
    """The fingerprint.json of latents or text; None where there is none that can be read."""
    try:
        fs, path = locate(folder.record)
        record = json.loads(fs.cat_file(path))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _found(dataset: str, kind: Encoded) -> list[str]:
    """The fingerprints below `dataset`/`kind`, sorted.

    Raises:
        NotADataset: there is no such dataset.
    """
    layout = Layout(dataset)
    root = layout.encoded_root(kind)
    fs, path = locate(root)
    if not fs.exists(path) and not fs.exists(locate(layout.shards)[1]):
        raise NotADataset(f"{dataset}: no dataset here (there is no {layout.shards}); `reelpack curate` makes one")
    return [name for name in children(root) if fs.exists(locate(layout.encoded(kind, name).record)[1])]
