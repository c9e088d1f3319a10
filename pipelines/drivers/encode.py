"""Clips → latents, captions → text embeddings, as sibling shards. The driver behind `reelpack encode DATASET`.

Latents and embeddings lie in folders named by a fingerprint of everything that changes their values. The tars are
planned before any work is done, so they do not depend on which worker was faster. With `encode.store=false` there are
no tars of latents, only their sizes in the index, and training encodes.
"""

import json
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.captions import KINDS
from curate.dataset.dataset import Dataset
from curate.dataset.rows import failure_row
from curate.dataset.schemas import LATENTS, TEXT
from curate.dataset.sources import SOURCE, of_current
from curate.dataset.store import Table, write_parquet
from curate.schema import Failure, content_digest
from curate.shards.tar import PLACE, write_tar
from curate.storage.publish import write_text
from curate.storage.tensors import arrays_to_bytes
from pipelines.config import Config
from pipelines.console.progress import CLIPS, FRAMES, Unit, tracked
from pipelines.execute.base import Executor, Needs
from pipelines.execute.build import executor
from train.autoencoder.encode import STEP as LATENT_STEP
from train.autoencoder.encode import Encoded, EncodeItem, EncodeStage
from train.data.text_embed import STEP as TEXT_STEP
from train.data.text_embed import TextEmbedded, TextEmbedItem, TextEmbedStage

CLIPS_PER_SHARD = 64
PATCH = (1, 2, 2)
"""Patch (t, h, w) at which `num_tokens` of the index is counted; a model with another patch counts for itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodeSummary:
    latents: str
    text: str
    num_clips: int
    num_tokens: int
    num_captions: int  # that are embedded
    num_captions_cut: int  # at `max_text_tokens`
    max_text_tokens: int
    num_failed: int
    seconds: float


def encode(url: str, config: Config) -> EncodeSummary:
    """Encode the indexed clips, and the captions they have, that are not encoded yet.

    Raises:
        ValueError: the dataset has no index, no clip has a caption yet, another command encodes it, or weights are
            missing.
    """
    dataset = Dataset(url)
    index = dataset.read_index().to_pylist()
    if not any(row["caption_short"] or row["caption_dense"] for row in index):
        raise ValueError(
            f"{dataset.url}: no clip has a caption; `reelpack status {dataset.url}` says why, and what to run first"
        )
    with dataset.writer("latents"):
        return _encode(dataset, index, config)


def _encode(dataset: Dataset, index: Sequence[Mapping[str, Any]], config: Config) -> EncodeSummary:
    start = time.monotonic()
    failures: list[Failure] = []
    with executor(config.execute) as on:
        text = _encode_text(dataset, index, config, on, failures)  # minutes: what is wrong with it is known first
        latents = _encode_latents(dataset, index, config, on, failures)
    command = shlex.join(["reelpack", "encode", dataset.url])
    keys = {LATENT_STEP: _fingerprint(latents), TEXT_STEP: _fingerprint(text)}
    dataset.failures.publish(failure_row(failure, keys[failure.step], command) for failure in failures)
    dataset.save_section("encode", config.encode.model_dump(mode="json"))
    rows = latents.read()
    num_captions, num_captions_cut = _count_captions(text.read())
    return EncodeSummary(
        latents=_fingerprint(latents),
        text=_fingerprint(text),
        num_clips=rows.num_rows,
        num_tokens=sum(rows["num_tokens"].to_pylist()),
        num_captions=num_captions,
        num_captions_cut=num_captions_cut,
        max_text_tokens=config.text.max_tokens,
        num_failed=len(failures),
        seconds=time.monotonic() - start,
    )


def _encode_latents(
    dataset: Dataset, index: Sequence[Mapping[str, Any]], config: Config, on: Executor, failures: list[Failure]
) -> Table:
    stage = EncodeStage(config.encode, dataset.layout.shards)
    record = stage.fingerprint_record()
    table = Table(f"{dataset.url}/latents/{record['fingerprint']}/parts", LATENTS, ["clip_id"])
    names = [field.name for field in fields(EncodeItem)]
    items = {row["clip_id"]: EncodeItem(**{name: row[name] for name in names}) for row in index}
    sources = {row["clip_id"]: row["digest"] for row in index}

    def members(result: Encoded) -> dict[str, bytes]:
        assert result.latent is not None
        return {"safetensors": arrays_to_bytes({"latent": result.latent})}

    def facts(result: Encoded) -> dict[str, Any]:
        c, t, h, w = result.shape
        tokens = -(-t // PATCH[0]) * -(-h // PATCH[1]) * -(-w // PATCH[2])
        return {
            "num_frames": result.num_frames,
            "height": result.height,
            "width": result.width,
            "fps": result.fps,
            "latent_c": c,
            "latent_t": t,
            "latent_h": h,
            "latent_w": w,
            "num_tokens": tokens,
        }

    write_text(f"{dataset.url}/latents/{record['fingerprint']}/fingerprint.json", json.dumps(record, indent=1))
    needs = Needs(batch_size=1, num_gpus=config.execute.gpus_per_worker)
    stored = members if config.encode.store else None
    _encode_missing(dataset, table, index, items, sources, stage, needs, stored, facts, on, failures, "encode", FRAMES)
    return table


def _encode_text(
    dataset: Dataset, index: Sequence[Mapping[str, Any]], config: Config, on: Executor, failures: list[Failure]
) -> Table:
    stage = TextEmbedStage(config.text.pinned())
    family = dataset.sections().get("caption_family", "")
    record = {**stage.fingerprint_record(), "captions": family}
    record["fingerprint"] = content_digest("text", record["fingerprint"], family)[:16]
    table = Table(f"{dataset.url}/text/{record['fingerprint']}/parts", TEXT, ["clip_id"])
    items = {
        row["clip_id"]: TextEmbedItem(
            clip_id=row["clip_id"],
            captions={kind: row[f"caption_{kind}"] for kind in KINDS if row[f"caption_{kind}"]},
        )
        for row in index
        if row["caption_short"] or row["caption_dense"]
    }
    sources = {
        clip_id: content_digest(*(text for pair in sorted(item.captions.items()) for text in pair))
        for clip_id, item in items.items()
    }

    def members(result: TextEmbedded) -> dict[str, bytes]:
        return {"safetensors": arrays_to_bytes(result.states)}

    def facts(result: TextEmbedded) -> dict[str, Any]:
        stored = {f"num_tokens_{kind}": len(states) for kind, states in result.states.items()}
        return stored | {f"num_uncut_tokens_{kind}": count for kind, count in result.num_uncut.items()}

    write_text(f"{dataset.url}/text/{record['fingerprint']}/fingerprint.json", json.dumps(record, indent=1))
    needs = Needs(batch_size=32, num_gpus=config.execute.gpus_per_worker)
    _encode_missing(
        dataset, table, index, items, sources, stage, needs, members, facts, on, failures, "embed text", CLIPS
    )
    return table


def _encode_missing(
    dataset: Dataset,
    table: Table,
    index: Sequence[Mapping[str, Any]],
    items: Mapping[str, Any],
    sources: Mapping[str, str | None],
    stage: Any,
    needs: Needs,
    members: Callable[[Any], dict[str, bytes]] | None,
    facts: Callable[[Any], dict[str, Any]],
    on: Executor,
    failures: list[Failure],
    name: str,
    unit: Unit,
) -> None:
    """Run `stage` on the items that `table` lacks, or has of another source; write each planned tar when its last item
    is there, or, without `members`, the rows that it would have had.

    Args:
        dataset: what is written belongs to.
        table: rows of the tars.
        index: the clips of the dataset.
        items: by clip id, those that there is work for.
        sources: by clip id, the digest of what an item is made of.
        stage: the work.
        needs: of a worker.
        members: the files of a sample; None: nothing is stored.
        facts: columns of a row beside those that say where it lies.
        on: what runs the stage.
        failures: those of the items are added here.
        name: of the work, for the progress line.
        unit: that the line measures it in.
    """
    root = table.url.rpartition("/")[0]
    rows = table.rows()
    now = pa.table({"clip_id": list(sources), "digest": pa.array(sources.values(), pa.string())})
    have = set(of_current(table.read([SOURCE]), now)["clip_id"].to_pylist())
    todo = [row for row in index if row["clip_id"] in items and row["clip_id"] not in have]
    plans = list(_plan_tars(todo, rows))
    tar_of = {clip_id: number for number, (_, _, ids) in enumerate(plans) for clip_id in ids}
    waiting: dict[int, dict[str, Any]] = {number: {} for number in range(len(plans))}
    work = [items[clip_id] for _, _, ids in plans for clip_id in ids]
    amounts = {row["clip_id"]: row["num_frames"] if unit is FRAMES else 1 for row in todo}
    for item, outcome in tracked(on, stage, work, needs, name, unit, lambda item: amounts[item.clip_id]):
        number = tar_of[item.clip_id]
        waiting[number][item.clip_id] = outcome
        shard, split, ids = plans[number]
        if len(waiting[number]) < len(ids):
            continue
        outcomes = waiting.pop(number)
        failures.extend(outcome for outcome in outcomes.values() if isinstance(outcome, Failure))
        done = {clip_id: outcomes[clip_id] for clip_id in ids if not isinstance(outcomes[clip_id], Failure)}
        if not done:
            continue
        rows_of = {
            clip_id: {"clip_id": clip_id, "split": split, SOURCE: sources[clip_id], **facts(result)}
            for clip_id, result in done.items()
        }
        dataset.check_writer()
        if members is not None:
            samples = ((clip_id, members(result)) for clip_id, result in done.items())
            for member in write_tar(f"{root}/{shard}", samples):
                rows_of[member.key] |= {column: getattr(member, column) for column in PLACE}
        table.publish(rows_of.values())
    write_parquet(f"{root}/index.parquet", _of_sources(table.read(), now))


def _of_sources(rows: pa.Table, now: pa.Table) -> pa.Table:
    """The rows but for those of clips that have other sources now, and could not be encoded again."""
    current = of_current(rows, now)["clip_id"]
    stale = pc.and_(pc.is_in(rows["clip_id"], now["clip_id"]), pc.invert(pc.is_in(rows["clip_id"], current)))
    return rows.filter(pc.invert(stale))


def _count_captions(texts: pa.Table) -> tuple[int, int]:
    """Embedded captions, and those of them that were cut off."""
    num_captions = num_cut = 0
    for kind in KINDS:
        stored, uncut = texts[f"num_tokens_{kind}"], texts[f"num_uncut_tokens_{kind}"]
        num_captions += stored.length() - stored.null_count
        num_cut += pc.sum(pc.less(stored, uncut)).as_py() or 0
    return num_captions, num_cut


def _fingerprint(parts: Table) -> str:
    return parts.url.rsplit("/", 2)[1]


def _plan_tars(
    todo: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, str, list[str]]]:
    """`(shard, split, clip_ids)` of the tars to write, numbered on from those that exist."""
    names = [row["shard"] for row in rows if row["shard"]]
    for split in ("train", "val"):
        numbers = [int(name.split("-")[1].split(".")[0]) for name in names if name.startswith(split)]
        ids = sorted(row["clip_id"] for row in todo if row["split"] == split)
        for number, start in enumerate(range(0, len(ids), CLIPS_PER_SHARD), max(numbers, default=-1) + 1):
            yield f"{split}-{number:06d}.tar", split, ids[start : start + CLIPS_PER_SHARD]
