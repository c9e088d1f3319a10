"""A small curated dataset for the tests of the commands."""

import shutil
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from caption.record import Finding, finding_row, media_digest
from curate.dataset.dataset import Dataset
from curate.dataset.schemas import CAPTIONS
from curate.shards.tar import TarReader, read_member
from pipelines.config import load_config
from pipelines.dataset import config_of
from pipelines.drivers.curate import curate
from tests.support.videos import moving, write_video

SETTINGS = [
    "scan.detector.kind=adaptive",
    "score.scorers=null",
    "execute.executor=local",
    "select.rules.short_side_px.min=16",
]


def curated(folder: Path) -> SimpleNamespace:
    """Three films, one of them also in a smaller size, and a broken file: two clips are kept, one is too short, one is
    a copy. Their folder, the dataset, and the summary of the run."""
    films, out = folder / "films", folder / "dataset"
    for seed, seconds in ((1, 2.5), (2, 1.5), (3, 0.5)):
        write_video(films / f"{seed}.mp4", moving(seed, seconds))
    write_video(films / "small.mp4", np.ascontiguousarray(moving(1, 2.5)[:, ::2, ::2]))
    (films / "broken.mp4").write_bytes((films / "1.mp4").read_bytes()[:900])
    result = curate([str(films)], str(out), load_config(overrides=SETTINGS))
    return SimpleNamespace(films=films, out=out, url=str(out), dataset=Dataset(str(out)), result=result)


def copied(made: SimpleNamespace, folder: Path) -> SimpleNamespace:
    """The same films with a copy of the dataset, to be changed."""
    out = Path(shutil.copytree(made.out, folder / "dataset"))
    return SimpleNamespace(**{**vars(made), "out": out, "url": str(out), "dataset": Dataset(str(out))})


def caption(
    dataset: Dataset,
    names: Sequence[str] = ("short",),
    *,
    family: str = "test-1",
    section: str = "caption_family",
    clips: Sequence[str] | None = None,
    status: str = "ok",
    prompt_id: str = "",
    findings: Sequence[Finding] = (),
) -> None:
    """Records as a captioner writes them, for the clips of the index, or some of them: a text for each of `names`."""
    reader = TarReader(dataset.layout.shards)
    rows = []
    members = [row for row in dataset.read_index().to_pylist() if clips is None or row["clip_id"] in clips]
    for row, name in product(members, names):
        level, _, variant = name.partition(".")
        digest = media_digest(read_member(reader, row))
        facts = dict.fromkeys(CAPTIONS.names, "") | {"frame_indices": [0, 3], "frame_times_s": [0.0, 0.25]}
        numbers = {"num_prompt_tokens": 1, "num_output_tokens": 1, "max_tokens": 8}
        facts |= {"findings": list(map(finding_row, findings))} | dict.fromkeys(("earlier", "parents", "windows"), ())
        facts |= {"variant": int(variant or 0), "attempt": 1, "prompt_id": prompt_id}
        facts |= {"provenance": {"backend": "test", "model": "test"}}
        told = f"caption of {row['clip_id']}"
        text = {"level": level, "status": status, "text": told if name == "short" else f"{name}, a longer {told}"}
        rows.append({**facts, **numbers, **text, "clip_id": row["clip_id"], "media_digest": digest})
    dataset.captions(family).publish(rows)
    dataset.save_section(section, family)
    dataset.write_index(config_of(dataset).shards.key)
