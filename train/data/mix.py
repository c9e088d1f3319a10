"""Several datasets in one run: their manifests one after the other, and how often an epoch meets each of them.

`train.data.mix` gives each dataset a weight: its share of the *samples* of an epoch, independent of its size. Samples,
not tokens, because a share of samples does not move with resolution, patch or token dropping; `reelpack train-plan`
shows both. An epoch is as long as one pass over all datasets: a small dataset with a large weight repeats, of a large
one with a small weight each epoch meets another part, drawn per clip. Inside a dataset the curation's balance weights
decide as they do alone; the two multiply. Without `mix` every dataset is seen once.

A clip in two datasets is seen once for each of them, with noise, timestep and caption of its own each time.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.layout import Encoded
from train.data.compact import concatenated
from train.data.conditioning.match import with_conditioning
from train.data.config import DataConfig
from train.data.draw import copy_keys
from train.data.fingerprint import text_or_none
from train.data.fit import check_blend, check_causality, check_gray, check_lone_frames, check_uncaptioned
from train.data.manifest import Manifest, label_names, read_manifest
from train.data.space import LATENT_SPACE, described_latents
from train.data.tasks.base import gray_of
from train.model.config import ModelConfig

SPACES: Mapping[Encoded, Sequence[str]] = {
    "latents": LATENT_SPACE,
    "text": ("encoder_fingerprint", "dim"),
}
"""What datasets of one run agree in; they may differ in size and rate of the clips, and in who wrote the captions."""


def read_datasets(datasets: str | Sequence[str], *, split: str, data: DataConfig, model: ModelConfig) -> Manifest:
    """The manifest of one dataset, or of several; the order in which they are named does not matter.

    Raises:
        ValueError: what `read_manifest` raises; datasets in different spaces; a mix of other datasets than these; a
            chosen clip that is not there; no captions for a model that takes them; what only a causal autoencoder's
            latents are good for.
    """
    urls = [datasets] if isinstance(datasets, str) else list(datasets)
    names = dataset_names(urls)
    shares = _shares(data.mix, names)
    parts = {
        name: read_manifest(
            url,
            split=split,
            patch=model.patch,
            latents=data.latents,
            text=text_or_none(url, data.text) if data.uncaptioned == "allow" else data.text,
            conditions=model.conditions,
            label_column=data.label_column,
            allow_empty=split != "train",
        )
        for name, url in names.items()
    }
    parts = {name: with_conditioning(manifest, data.conditioning, split) for name, manifest in parts.items()}
    if data.label_column is not None:
        classes = _classes(list(names.values()), data.label_column, data.labels, model.num_classes)
        parts = {name: _numbered(manifest, classes, model.num_classes or 0) for name, manifest in parts.items()}
    if model.reads_captions:
        for url, manifest in zip(names.values(), parts.values(), strict=True):
            check_uncaptioned(url, manifest, split, data)
    for manifest in parts.values():
        check_lone_frames(manifest, data)
    manifest = parts.popitem()[1] if len(parts) == 1 else join_manifests(parts, shares)
    if data.clips and split == "train":
        manifest = _chosen(manifest, data.clips)
    if model.reads_captions and split == "train":
        check_blend(manifest, data.blend)
    check_causality(manifest, data)
    check_gray(manifest, data, model)
    return replace(manifest, gray=next(iter(gray_of(data.tasks)), None))


def dataset_names(urls: Sequence[str]) -> dict[str, str]:
    """Name → URL, sorted: the last folder's name, where two are equal the whole URL.

    Raises:
        ValueError: no dataset, or one that is named twice.
    """
    urls = [url.rstrip("/") for url in urls]
    if not urls or len(set(urls)) < len(urls):
        raise ValueError(f"got datasets {', '.join(urls) or '(none)'}; expected at least one, and each once")
    counts = Counter(url.rpartition("/")[2] for url in urls)
    named = ((url.rpartition("/")[2] if counts[url.rpartition("/")[2]] == 1 else url, url) for url in urls)
    return dict(sorted(named))


def join_manifests(parts: Mapping[str, Manifest], shares: Mapping[str, float] | None = None) -> Manifest:
    """One manifest of several by name, their rows one after the other.

    Raises:
        ValueError: latents or text of different spaces. A dataset without captions fits every space of text.
    """
    for one, other in pairwise(parts.items()):
        _check_space("latents", one, other)
    for one, other in pairwise((name, manifest) for name, manifest in parts.items() if manifest.has_texts):
        _check_space("text", one, other)
    manifests = list(parts.values())
    keys, copies = _keys([manifest.keys for manifest in manifests])
    tables = [
        manifest.table.set_column(manifest.table.schema.get_field_index("copy"), "copy", pa.array(copy))
        for manifest, copy in zip(manifests, copies, strict=True)
    ]
    return Manifest(
        table=concatenated(tables),
        grids=np.concatenate([manifest.grids for manifest in manifests]),
        keys=keys,
        weights=np.concatenate([manifest.weights for manifest in manifests]),
        sources=np.repeat(np.arange(len(manifests)), [len(manifest) for manifest in manifests]),
        parts=tuple(
            replace(manifest.parts[0], name=name, share=None if shares is None else shares[name])
            for name, manifest in parts.items()
        ),
        labels=manifests[0].labels,
        latents=manifests[0].latents,
        text=next((manifest.text for manifest in manifests if manifest.has_texts), manifests[0].text),
        conditioning=manifests[0].conditioning,
    )


def _chosen(manifest: Manifest, names: Sequence[str]) -> Manifest:
    """The rows of clips whose ids begin so.

    Raises:
        ValueError: a name is that of no training clip, or of several.
    """
    ids = np.array(manifest.clip_ids)
    is_chosen = np.zeros(len(ids), bool)
    for name in names:
        begins = np.char.startswith(ids, name)
        if (count := len(np.unique(ids[begins]))) != 1:
            raise ValueError(
                f"train.data.clips: {name} is the beginning of {count} ids of the {len(np.unique(ids))} training "
                f"clips, such as {ids[begins][0] if count else ids[0]}; expected that of one"
            )
        is_chosen |= begins
    return manifest.of_rows(np.flatnonzero(is_chosen))


def _classes(
    datasets: Sequence[str], column: str, given: tuple[str, ...] | None, num_classes: int | None
) -> tuple[str, ...] | None:
    """Names of the classes by number; None where the column holds the numbers."""
    found = [label_names(dataset, column) for dataset in datasets]
    names = [some for some in found if some is not None]
    if names and len(names) < len(found):
        raise ValueError(f"train.data.label_column={column}: it holds numbers in one dataset, names in another")
    classes = (given or tuple(sorted(set().union(*names)))) if names else None
    if classes is not None and (unknown := sorted(set().union(*names) - set(classes))):
        raise ValueError(
            f"train.data.labels: the column {column} also has {', '.join(unknown[:8])}; name all, in the order of "
            "their numbers"
        )
    if num_classes is None or num_classes < len(classes or ()):
        raise ValueError(
            f"train.data.label_column={column} and train.model.num_classes={num_classes}: the column has "
            f"{'numbers' if classes is None else f'{len(classes)} classes'}; set train.model.num_classes"
            f"{'' if classes is None else f'={len(classes)}'}, or unset the column"
        )
    return classes


def _numbered(manifest: Manifest, classes: tuple[str, ...] | None, num_classes: int) -> Manifest:
    """With numbers of classes as labels."""
    labels = manifest.table["label"].combine_chunks()
    if classes is None:
        numbers = labels.cast(pa.int64())
    else:
        numbers = pc.index_in(labels.cast(pa.string()), pa.array(classes, pa.string()), skip_nulls=True).cast(
            pa.int64()
        )
    wrong = pc.or_(pc.less(numbers, 0), pc.greater_equal(numbers, num_classes))
    if pc.any(wrong).as_py():
        row = pc.index(wrong, True).as_py()
        raise ValueError(
            f"clip {manifest.row(row)['clip_id']} has label {numbers[row]}; expected 0 to {num_classes - 1}: raise "
            "train.model.num_classes"
        )
    table = manifest.table.set_column(manifest.table.schema.get_field_index("label"), "label", numbers)
    return replace(manifest, table=table, labels=classes)


def _keys(of_parts: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Keys of all rows, and for each part how many parts before it hold the same clip."""
    copies: list[np.ndarray] = []
    for number, keys in enumerate(of_parts):
        copy = np.zeros(len(keys), np.int64)
        for before in of_parts[:number]:
            copy += np.isin(keys, before)
        copies.append(copy)
    keyed = [copy_keys(keys, copy) for keys, copy in zip(of_parts, copies, strict=True)]
    return np.concatenate(keyed), copies


def _check_space(kind: Encoded, one: tuple[str, Manifest], other: tuple[str, Manifest]) -> None:
    names = SPACES[kind]
    records: list[dict[str, Any]] = [getattr(manifest, kind) for _, manifest in (one, other)]
    facts = [[record.get(name) for name in names] for record in records]
    if records[0]["fingerprint"] == records[1]["fingerprint"] or (None not in facts[0] and facts[0] == facts[1]):
        return
    spaces = [
        described_latents(record)
        if kind == "latents"
        else f"{record['fingerprint']} ({', '.join(f'{name} {record.get(name)}' for name in names)})"
        for record in records
    ]
    told = " and ".join(
        f"{manifest.parts[0].url} has {space}" for (_, manifest), space in zip((one, other), spaces, strict=True)
    )
    raise ValueError(
        f"datasets of one run share a space of {kind}: {told}; `reelpack encode` one of them with the settings of "
        "the other"
    )


def _shares(mix: Mapping[str, float], names: Mapping[str, str]) -> dict[str, float] | None:
    """Share of samples by name, adding to 1; None where nothing is asked for."""
    if not mix:
        return None
    of_key = {key: name for name, url in names.items() for key in (name, url, f"{url}/")}
    unknown = [key for key in mix if key not in of_key]
    weights = {of_key[key]: weight for key, weight in mix.items() if key in of_key}
    missing = [name for name in names if name not in weights]
    if unknown or missing or not sum(weights.values()):
        raise ValueError(
            f"train.data.mix: got {dict(mix)}; expected a weight for each of the run's datasets, not all 0: "
            f"{', '.join(names)}"
        )
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}
