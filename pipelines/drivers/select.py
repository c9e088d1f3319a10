"""Another policy over stored scores: decodes nothing. The driver behind `reelpack select DATASET --set select.…`."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curate.dataset.dataset import Dataset
from curate.dataset.versions import recorded
from curate.media.counter import frames_decoded
from curate.select import funnel
from pipelines.config import POLICY_SECTIONS, Config, load_config
from pipelines.dataset import check_cut, config_of, curate_command
from pipelines.settings import File
from pipelines.steps.decide import decide, read_stored


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectSummary:
    """The decisions before and after, how many kept clips no shard holds yet (`curate` cuts them), and how many
    pictures this process decoded meanwhile: none."""

    before: Mapping[str, int]
    after: Mapping[str, int]
    num_indexed: int
    num_uncut: int
    num_frames_decoded: int
    seconds: float

    @property
    def why_nothing(self) -> str:
        """What to say where no clip is kept."""
        return "nothing is kept: this policy rejects every clip"


def select(url: str, file: File | None = None, overrides: Sequence[str] = ()) -> SelectSummary:
    """Decide again and rewrite `clips.parquet` and `shards/index.parquet`; the new policy becomes the dataset's.

    Args:
        url: the dataset directory.
        file: sections `select` and `dedup`; None for the policy that the dataset has.
        overrides: `select.…=value` or `dedup.…=value`, on top.

    Raises:
        ValueError: nothing was curated here, a setting is no policy: it would need frames, another version
            of the scan found the clips or of the cut wrote them, or another command curates.
    """
    dataset = Dataset(url)
    old = config_of(dataset)
    # How work is run changes no decision: one file serves `curate` and `select`.
    new = load_config(file, overrides, base=old).model_copy(update={"execute": old.execute})
    changed = [name for name in type(new).model_fields if getattr(new, name) != getattr(old, name)]
    if work := sorted(set(changed) - set(POLICY_SECTIONS)):
        raise ValueError(
            f"select changes policies only (select.…, dedup.…), got settings of {', '.join(work)}; "
            f"`reelpack curate INPUT --out {url}` computes what they ask for"
        )
    policy = {name: getattr(new, name).model_dump(mode="json") for name in POLICY_SECTIONS}
    return decide_again(dataset, new, {**dataset.made_with(), **policy})


def decide_again(dataset: Dataset, config: Config, section: Mapping[str, Any]) -> SelectSummary:
    """Decide by a configuration, which becomes the dataset's, from what is stored; the decision becomes a version.

    Args:
        dataset: that holds the tables.
        config: the settings.
        section: the same, as config.yaml has them, with the score families.

    Raises:
        ValueError: as `select`.
    """
    start, decoded_before = time.monotonic(), frames_decoded()
    with dataset.writer("curate"):
        before = Counter[str]()
        for part in dataset.clip_tables(["decision", "reasons"]):
            before.update(funnel(part))
        families = dataset.columns_of(section["families"])
        stored = read_stored(dataset, config, families, keep=True)
        if before.get("clips") and not stored.clips.count_rows():
            raise ValueError(
                f"{dataset.url}: its clips were found by another version of the scan, and none is stored by this one; "
                f"nothing is changed. `{curate_command(dataset)}` computes them again"
            )
        check_cut(dataset)
        # Of a run that is killed here it is not known by which policy `clips.parquet` is. That of `curate` stays.
        marks = "num_inputs" not in dataset.sections().get("running", {})
        if marks:
            dataset.save_section("running", dict(section))
        with recorded(dataset) as changes:
            after = decide(dataset, stored, config, families, changes)
            dataset.save_section("curate", dict(section))
        if marks:
            dataset.save_section("running", None)
        num_indexed = dataset.write_index(config.shards.key, keep=True)
    return SelectSummary(
        before=before,
        after=after,
        num_indexed=num_indexed,
        num_uncut=after.get("keep", 0) - num_indexed,
        num_frames_decoded=frames_decoded() - decoded_before,
        seconds=time.monotonic() - start,
    )
