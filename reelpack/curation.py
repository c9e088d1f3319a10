"""From raw videos to a dataset that can be trained on: `curate`, `select`, `caption`, `encode`, `export`.

Each is the command of its name, with the same driver. `config` is what `--config` takes (a YAML file, or the name of a
shipped one), or a mapping of sections. `settings` is what `--set` takes: a list of `"section.key=value"`, or a mapping
of values by `"section.key"`. A mistake in them is a ValueError that names the nearest key.
"""

import os
from collections.abc import Iterable
from typing import Literal

from pipelines.console.interrupted import of_dataset
from pipelines.settings import File, Settings, as_last, as_overrides, local_first, resolved_config
from reelpack.dataset import Dataset, url_of
from reelpack.errors import NothingKept
from reelpack.results import Captioned, Curated, Encoded, Exported, Selected
from reelpack.running import running

Path = str | os.PathLike[str]
ExecutorName = Literal["local", "ray"]


def curate(
    inputs: Path | Iterable[Path],
    out: Path,
    *,
    lists: Path | Iterable[Path] = (),
    sidecar: Path | None = None,
    drop_failed: bool = False,
    config: File | None = None,
    settings: Settings | None = None,
    executor: ExecutorName | None = None,
    address: str | None = None,
) -> Curated:
    """Split raw videos into shots, score and select them, write shards. Called again, it computes what is missing.

    Args:
        inputs: files, folders, globs of videos and images; WebDataset tars, tables, lists; URLs (docs/inputs.md).
        out: the dataset directory; made if it is not there.
        lists: lists of inputs: CSV, JSONL, Parquet, or a path per line.
        sidecar: your own columns: CSV, JSONL or Parquet with a column `path`.
        drop_failed: clips may leave the index because of failures alone.
        config: settings, see above.
        settings: likewise, over `config`.
        executor: `local`: in this process; `ray`, the default: on Ray Data, a private one unless there is a cluster.
        address: Ray cluster to join.

    Raises:
        NothingKept: no clip is kept; the message has the reasons.
        Occupied: another process curates into `out`.
        ValueError: no such input, or a mistake in a setting.
        Interrupted: by Ctrl-C; the same call resumes.
    """
    url, given, given_lists = os.fspath(out), names_of(inputs), names_of(lists)
    with running("curate", of_dataset, url):
        from pipelines.drivers import curate as driver

        resolved = resolved_config(config, settings, executor=executor, address=address)
        driver.check_given(given, given_lists, url)
        done = driver.curate(
            given,
            url,
            resolved,
            lists=given_lists,
            sidecar=None if sidecar is None else os.fspath(sidecar),
            drop_failed=drop_failed,
        )
    if not done.num_indexed:
        raise NothingKept(f"{url}: {done.why_nothing}; `reelpack status {url}` says more")
    return Curated.of(Dataset(url), done)


def select(dataset: Dataset | Path, *, config: File | None = None, settings: Settings | None = None) -> Selected:
    """Decide again under another policy, over stored scores: decodes nothing, takes seconds.

    Args:
        dataset: a dataset, or its directory.
        config: sections `select` and `dedup`.
        settings: `select.…` and `dedup.…`: `{"select.rules.motion.min": 0.01}`.

    Raises:
        NothingKept: the policy rejects every clip, and is the dataset's now.
        ValueError: no dataset, or a setting for which frames are needed.
    """
    with running("curate", of_dataset, url_of(dataset)):
        from pipelines.drivers import select as driver

        done = driver.select(url_of(dataset), config, as_overrides(settings))
    if not done.after.get("keep"):
        raise NothingKept(f"{url_of(dataset)}: {done.why_nothing}")
    return Selected.of(Dataset(url_of(dataset)), done)


def caption(
    dataset: Dataset | Path,
    *,
    config: File | None = None,
    settings: Settings | None = None,
    executor: ExecutorName | None = None,
    address: str | None = None,
) -> Captioned:
    """Write captions for every kept clip that lacks one: by a vision–language model, and from your own text.

    Args:
        dataset: a dataset, or its directory.
        config: section `caption`.
        settings: likewise: `{"caption.backend.model": "Qwen/Qwen3-VL-8B-Instruct"}`.
        executor: `local`, the default: in this process; `ray`, the default with an `address`.
        address: Ray cluster to join.

    Raises:
        NothingKept: no clip has a caption to train on.
        ValueError: no dataset, no kept clips, or a model that cannot be loaded.
        Interrupted: by Ctrl-C; the same call resumes.
    """
    url = url_of(dataset)
    with running("caption", of_dataset, url):
        from pipelines.drivers import caption as driver

        done = driver.caption(url, local_first(config, settings, executor, address))
    if not done.num_captions:
        raise NothingKept(f"{url}: {done.why_nothing}; `reelpack status {url}` says more")
    return Captioned.of(Dataset(url), done)


def encode(
    dataset: Dataset | Path,
    *,
    config: File | None = None,
    settings: Settings | None = None,
    executor: ExecutorName | None = None,
    address: str | None = None,
) -> Encoded:
    """Encode the kept clips to latents and their captions to text embeddings, those that are missing.

    Args:
        dataset: a dataset, or its directory.
        config: sections `encode` and `text`; None: as it ran last on the dataset.
        settings: likewise.
        executor: `local`, the default: in this process; `ray`, the default with an `address`.
        address: Ray cluster to join.

    Raises:
        NothingKept: no clip has latents.
        ValueError: no dataset, no kept clips, or weights that are missing.
        Interrupted: by Ctrl-C; the same call resumes.
    """
    url = url_of(dataset)
    with running("sample", of_dataset, url):
        from pipelines.drivers import encode as driver

        resolved = local_first(config, settings, executor, address, as_last(url, "encode", config))
        done = driver.encode(url, resolved)
    if not done.num_clips:
        raise NothingKept(f"{url}: {done.why_nothing}; `reelpack status {url}` says more")
    return Encoded.of(Dataset(url), done)


def export(
    dataset: Dataset | Path,
    out: Path,
    *,
    to: str = "webdataset",
    where: str | None = None,
    split: str | None = None,
    caption_level: str | None = None,
    shard_size: str | int | None = None,
    latents: str | None = None,
    push: str | None = None,
    settings: Settings | None = None,
) -> Exported:
    """Write clips and captions for other tools (docs/export.md). Called again, it resumes.

    Args:
        dataset: a dataset, or its directory.
        out: an empty folder, or one in which the same export was stopped.
        to: the layout: webdataset, hf, parquet, folders, finetrainers, diffusion-pipe, musubi, energon or litdata.
        where: a condition of SQL over all columns: `"nsfw < 0.2 and licence = 'CC0'"`.
        split: `train` or `val`; None: both.
        caption_level: `human`, `dense`, `short` or `original`; None: the most detailed of each clip.
        shard_size: clips (`256`) or size (`"512MiB"`) of files of many clips.
        latents: also latents: a fingerprint, or `auto`.
        push: then upload it: `hf://organization/name`.
        settings: of the layout.

    Raises:
        ValueError: nothing meets the condition, `out` holds something else, or no such layout or setting.
    """
    with running("export"):
        from curate.export.config import layout_of
        from pipelines.drivers import export as driver

        choice = driver.choice_of(
            where, split, caption_level, latents, None if shard_size is None else str(shard_size)
        )
        layout = layout_of(to, as_overrides(settings))
        count, num_captioned = driver.export(url_of(dataset), os.fspath(out), layout, choice, push)
    return Exported(out=os.fspath(out), num_clips=count, num_captioned=num_captioned)


def names_of(paths: Path | Iterable[Path]) -> list[str]:
    """One path, or several, as texts."""
    return [os.fspath(path) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
