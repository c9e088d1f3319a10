"""Raw videos → scored, selected clips → shards. The driver: reads what is stored, subtracts, runs the rest.

Run it as `reelpack curate INPUT... --out DATASET`, or on a cluster as
`ray job submit --working-dir . -- python -m pipelines.curate_videos INPUT... --out DATASET`.
"""

import shlex
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.columns import CAPTION_SCORES
from curate.dataset.dataset import Dataset
from curate.dataset.scans import clips_of, current_videos
from curate.dataset.versions import recorded
from curate.schema import Failure, FailureKind
from curate.scores.score import ScoreStage
from pipelines.config import CURATION_SECTIONS, POLICY_SECTIONS, Config, differences, upgraded
from pipelines.console.progress import console
from pipelines.console.readers import fallback_note
from pipelines.drivers.originals import store_texts
from pipelines.execute.base import Executor
from pipelines.execute.build import open_executor
from pipelines.execute.ray_cluster import check_address
from pipelines.inputs.listing import Listing, list_inputs
from pipelines.inputs.sidecar import columns_by_clip, num_changed, read_sidecar, store_own, store_sidecar
from pipelines.inputs.sidecar_file import PATH
from pipelines.inputs.sources import kept_by_job, left_out_text, named, refuse_mistyped
from pipelines.provenance import provenance
from pipelines.steps.cut import cut, uncut
from pipelines.steps.decide import SCANNED, Families, Stored, decide, decided, read_stored
from pipelines.steps.own_texts import check_columns
from pipelines.steps.run import CurateRun
from pipelines.steps.scan import check_detectors, scan
from pipelines.steps.score import score


@dataclass(frozen=True, kw_only=True, slots=True)
class CurateSummary:
    """The dataset after a run of `curate` (inputs, funnel of the clips, index), and what the run did."""

    num_inputs: int
    num_failed_inputs: int
    num_forgotten_inputs: int
    failures: tuple[Failure, ...]
    funnel: Mapping[str, int]
    num_indexed: int
    num_frames_decoded: int
    reader_note: str | None  # which clips PyAV read, and not the chosen reader
    seconds: float

    @property
    def why_nothing(self) -> str:
        """What to say where no clip is in the index: the reasons that stood in the way, the commonest first."""
        kinds = Counter(str(failure.kind) for failure in self.failures)
        rules = {name.removeprefix("reject:"): n for name, n in self.funnel.items() if name.startswith("reject:")}
        reasons = [f"{count} failed ({kind})" for kind, count in kinds.most_common()]
        reasons += [f"{count} rejected by select.{rule}" for rule, count in sorted(rules.items(), key=lambda p: -p[1])]
        return f"nothing was kept: {'; '.join(reasons) or f'all {self.num_failed_inputs} inputs failed before'}"


def check_given(inputs: Sequence[str], lists: Sequence[str], out: str) -> None:
    """See that what a user gives names something, before anything is made of the rest.

    Raises:
        ValueError: no inputs, one that names nothing, an `out` that holds a run, or in a job of Ray one that goes with
            the job.
    """
    if not inputs and not lists:
        raise ValueError("got no inputs; expected files, folders, globs, or a list of them (--list FILE)")
    kept_by_job(out)
    dataset = Dataset(out)
    if dataset.is_run():
        raise ValueError(f"--out {out}: holds a training run; give a dataset, or a new folder")
    refuse_mistyped([*inputs, *lists], known_inputs(dataset))


def policy_change(dataset: Dataset, config: Config) -> str:
    """How a run changes the policy of the dataset, in words; empty if it does not."""
    old, new = upgraded(dataset.sections().get("curate", {})), config.model_dump(mode="json")
    sections = [name for name in POLICY_SECTIONS if name in old]
    was, becomes = (
        ", ".join(text for name in sections for text in differences(one[name], other[name], name))
        for one, other in ((old, new), (new, old))
    )
    return becomes and f"the policy changes to {becomes}; it was {was}: pass that with --set to keep it"


def curate(
    inputs: Sequence[str],
    out: str,
    config: Config,
    *,
    lists: Sequence[str] = (),
    sidecar: str | None = None,
    retry: Collection[FailureKind] = frozenset(),
    drop_failed: bool = False,
) -> CurateSummary:
    """Bring DATASET up to date with its inputs and its configuration; what is stored is not computed again.

    Args:
        inputs: files, folders, globs, lists; local paths or fsspec URLs (docs/inputs.md).
        lists: files that are lists of inputs, under any name.
        out: the dataset directory; made if it is not there.
        config: the resolved configuration.
        sidecar: a CSV, JSONL or Parquet file of the user's own columns, keyed by path; None keeps those given before.
        retry: kinds of failure to attempt again, in addition to the retryable ones.
        drop_failed: clips may leave the index because of failures alone.

    Raises:
        ValueError: the inputs name no file at all, another command curates into `out`, or clips would leave the index
            because of failures alone, or the sidecar cannot be read or names several files in one row, or a shot
            detector lacks what it needs.
        OSError: the dataset cannot be written.
    """
    dataset, left_out = Dataset(out), list[str]()
    listing = list_inputs(
        inputs,
        exclude=out,
        leave_out=left_out.append,
        lists=lists,
        sidecar=config.sidecar,
        staging=config.execute.staging,
    )
    uris = [source.uri for source in listing.sources]
    if not uris:
        refuse_mistyped([*inputs, *lists], known_inputs(dataset))
    for note in (*([left_out_text(left_out)] if left_out else []), *listing.notes):
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    # Mistakes are reported before anything is written.
    config.media.build().setup()
    stage = ScoreStage(config.score, config.select, config.media)
    own = None if sidecar is None else read_sidecar(sidecar, config.sidecar)
    columns = _columns(config, dataset.sidecar(), listing.own, own)
    config.select.rules_for(columns)
    check_columns(config.score, columns, _own_names(dataset.sidecar(), listing.own, own))
    check_detectors(config.scan, uris, dataset.videos.read([])["uri"].to_pylist())
    if config.execute.executor == "ray":
        check_address(config.execute)
    dataset.make()
    with dataset.writer("curate"):
        _store_columns(dataset, listing, sidecar, own)
        return _curate(dataset, inputs, lists, listing, config, stage, retry, drop_failed)


def _store_columns(dataset: Dataset, listing: Listing, sidecar: str | None, own: pa.Table | None) -> None:
    """Keep the user's own columns: of the inputs, and over them those of `--sidecar`."""
    if sidecar is None and listing.own is None:
        return
    before = dataset.sidecar()
    if sidecar is not None and own is not None:
        lost = store_sidecar(dataset, sidecar, own, [source.uri for source in listing.sources], listing.own)
        console.print(f"sidecar: {lost} rows name no input file" if lost else "sidecar: every row has its file")
    elif listing.own is not None:
        store_own(dataset, listing.own)
    if changed := num_changed(dataset, before):
        console.print(
            f"sidecar: other columns for {changed} inputs of earlier runs; the index and exports have them, "
            "the .json of clips that are already cut stays as it was"
        )


def _columns(config: Config, *sidecars: pa.Table | None) -> dict[str, pa.DataType]:
    """Column → type, for all that the policy can rule: known before the first file is opened."""
    own = {field.name: field.type for table in sidecars if table is not None for field in table.schema}
    scored = {name: column.type for scorer in config.score.scorers.values() for name, column in scorer.columns.items()}
    later = {name: column.type for name, column in CAPTION_SCORES.items()}
    return {**own, **SCANNED, **scored, **later}


def _own_names(*sidecars: pa.Table | None) -> list[str]:
    names = [name for table in sidecars if table is not None for name in table.column_names]
    return [name for name in names if name not in (PATH, "uri")]


def known_inputs(dataset: Dataset) -> set[str]:
    """Inputs of earlier runs and the files found in them, which may be unreachable now."""
    return _named(dataset) | {row["uri"] for row in dataset.videos.rows()}


def _named(dataset: Dataset) -> set[str]:
    """The inputs of the last run, and of an unfinished one."""
    sections = dataset.sections()
    runs = [sections.get(name, {}) for name in ("running", "curate")]
    return {text for run in runs for text in (*run.get("inputs", ()), *run.get("lists", ()))}


def _curate(
    dataset: Dataset,
    inputs: Sequence[str],
    lists: Sequence[str],
    listing: Listing,
    config: Config,
    stage: ScoreStage,
    retry: Collection[FailureKind],
    drop_failed: bool,
) -> CurateSummary:
    start = time.monotonic()
    families = stage.families
    made_with = _made_with(inputs, lists, families, config)
    if changed := policy_change(dataset, config):
        console.print(f"{changed}\n", highlight=False, markup=False)
    named_before = _named(dataset)
    dataset.save_section("running", {**made_with, "num_inputs": len(listing.sources) + len(listing.failures)})
    listed = {source.uri: source.version for source in listing.sources}
    signed = {source.uri: source.signed for source in listing.sources if source.signed}
    run = CurateRun(dataset, config, shlex.join(["reelpack", "retry", dataset.url]), listed, retry, signed)
    with open_executor(config.execute) as executor:
        named_now = [*made_with["inputs"], *listing.containers]
        scan(run, executor, listing.sources, listing.failures, named_now, named_before)
        score(run, executor, clips_of(dataset, config.scan), stage)
        dataset.compact(families)  # before the search for duplicates, whose cache depends on the names of the parts
        stored = read_stored(dataset, config, families, keep=True)
        _cut_kept(run, executor, stored, families)
    with recorded(dataset) as changes:
        final = decide(dataset, stored, config, families, changes, drop_failed=drop_failed)
        # The settings are saved only now that the tables are complete under them.
        dataset.save_section("curate", made_with)
    dataset.save_section("running", None)
    dataset.compact(families)
    num_indexed = dataset.write_index(config.shards.key)
    if listing.num_texts:
        num_indexed = store_texts(dataset, config.shards.key) or num_indexed
    outcomes = current_videos(dataset, config.scan, ["outcome"])["outcome"].to_pylist()
    return CurateSummary(
        num_inputs=len(outcomes),
        num_failed_inputs=outcomes.count("failed"),
        num_forgotten_inputs=len(dataset.tombstones().uris & listed.keys()),
        failures=tuple(run.failures),
        funnel=final,
        num_indexed=num_indexed,
        num_frames_decoded=run.num_frames_decoded,
        reader_note=fallback_note(config.media, run.fallbacks),
        seconds=time.monotonic() - start,
    )


def _made_with(inputs: Sequence[str], lists: Sequence[str], families: Families, config: Config) -> dict[str, Any]:
    """What the dataset saves of a run."""
    return {
        "inputs": [named(text) for text in inputs],
        **({"lists": [named(text) for text in lists]} if lists else {}),
        "families": list(families),
        **provenance(),
        **config.model_dump(mode="json", include={*CURATION_SECTIONS}),
    }


def _cut_kept(run: CurateRun, executor: Executor, stored: Stored, families: Families) -> None:
    """Cut what the policy keeps. A clip that fails is not kept in the next round, so this ends."""
    dataset, clips = run.dataset, clips_of(run.dataset, run.config.scan)
    while True:
        so_far = decided(dataset, stored, run.config, families, uncut(run))
        kept = so_far.filter(pc.equal(so_far["decision"], "keep"))
        splits = dict(zip(kept["clip_id"].to_pylist(), kept["split"].to_pylist(), strict=True))
        to_cut = [clip for clip in clips if clip.clip_id in splits]
        if not cut(run, executor, to_cut, splits, columns_by_clip(dataset, so_far)):
            return
