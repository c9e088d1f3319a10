"""Clips → latents, captions → text embeddings. The driver behind `reelpack encode DATASET`.

Both are in folders named by a fingerprint of everything that changes their values. With `encode.store=false` there are
no tars of latents, only their sizes in the index, and training encodes.
"""

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.captions import KINDS, texts_of
from curate.dataset.dataset import Dataset
from curate.dataset.rows import failure_row
from curate.schema import content_digest
from pipelines.config import Config
from pipelines.console.progress import CLIPS, FRAMES
from pipelines.execute.build import open_executor
from pipelines.steps.encode import Encoding, encode_missing
from train.autoencoder.encode import Encoded, EncodeItem, EncodeStage
from train.data.text_embed import TextEmbedded, TextEmbedItem, TextEmbedStage

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
    if not any(map(texts_of, index)):
        raise ValueError(
            f"{dataset.url}: no clip has a caption; `reelpack status {dataset.url}` says why, and what to run first"
        )
    with dataset.writer("latents"):
        return _encode(dataset, index, config)


def _encode(dataset: Dataset, index: Sequence[Mapping[str, Any]], config: Config) -> EncodeSummary:
    start = time.monotonic()
    command = shlex.join(["reelpack", "encode", dataset.url])
    failures, tables = [], []
    with open_executor(config.execute) as executor:
        for make in (_text, _latents):  # text takes minutes: what is wrong with it is known first
            encoding = make(dataset, index, config)
            failed = encode_missing(dataset, executor, encoding, index, config.execute)
            failures += [failure_row(failure, encoding.fingerprint, command) for failure in failed]
            tables.append((encoding.fingerprint, dataset.encoded(encoding.kind, encoding.fingerprint).read()))
    dataset.failures.publish(failures)
    dataset.save_section("encode", config.encode.model_dump(mode="json"))
    (text, texts), (latents, rows) = tables
    num_captions, num_captions_cut = _count_captions(texts)
    return EncodeSummary(
        latents=latents,
        text=text,
        num_clips=rows.num_rows,
        num_tokens=sum(rows["num_tokens"].to_pylist()),
        num_captions=num_captions,
        num_captions_cut=num_captions_cut,
        max_text_tokens=config.text.max_tokens,
        num_failed=len(failures),
        seconds=time.monotonic() - start,
    )


def _latents(dataset: Dataset, index: Sequence[Mapping[str, Any]], config: Config) -> Encoding:
    stage = EncodeStage(config.encode, dataset.layout.shards)
    names = [field.name for field in fields(EncodeItem)]

    def facts(result: Encoded) -> dict[str, Any]:
        c, t, h, w = result.shape
        return {
            **{name: getattr(result, name) for name in ("num_frames", "height", "width", "fps")},
            **{"latent_c": c, "latent_t": t, "latent_h": h, "latent_w": w},
            "num_tokens": -(-t // PATCH[0]) * -(-h // PATCH[1]) * -(-w // PATCH[2]),
        }

    return Encoding(
        kind="latents",
        record=stage.fingerprint_record(),
        stage=stage,
        items={row["clip_id"]: EncodeItem(**{name: row[name] for name in names}) for row in index},
        sources={row["clip_id"]: row["digest"] for row in index},
        tensors=(lambda result: {"latent": result.latent}) if config.encode.store else None,
        facts=facts,
        batch_size=1,
        name="encode",
        unit=FRAMES,
    )


def _text(dataset: Dataset, index: Sequence[Mapping[str, Any]], config: Config) -> Encoding:
    stage = TextEmbedStage(config.text.pinned())
    family = dataset.caption_family or ""
    record = {**stage.fingerprint_record(), "captions": family}
    record["fingerprint"] = content_digest("text", record["fingerprint"], family)[:16]
    captions = {row["clip_id"]: texts for row in index if (texts := texts_of(row))}

    def facts(result: TextEmbedded) -> dict[str, Any]:
        stored = {f"num_tokens_{kind}": len(states) for kind, states in result.states.items()}
        return stored | {f"num_uncut_tokens_{kind}": count for kind, count in result.num_uncut.items()}

    return Encoding(
        kind="text",
        record=record,
        stage=stage,
        items={name: TextEmbedItem(clip_id=name, captions=texts) for name, texts in captions.items()},
        sources={
            name: content_digest(*(text for pair in sorted(texts.items()) for text in pair))
            for name, texts in captions.items()
        },
        tensors=lambda result: result.states,
        facts=facts,
        batch_size=32,
        name="embed text",
        unit=CLIPS,
    )


def _count_captions(texts: pa.Table) -> tuple[int, int]:
    """Embedded captions, and those of them that were cut off."""
    num_captions = num_cut = 0
    for kind in KINDS:
        stored, uncut = texts[f"num_tokens_{kind}"], texts[f"num_uncut_tokens_{kind}"]
        num_captions += stored.length() - stored.null_count
        num_cut += pc.sum(pc.less(stored, uncut)).as_py() or 0
    return num_captions, num_cut
