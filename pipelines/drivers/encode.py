"""Clips → latents, captions → text embeddings. The driver behind `reelpack encode DATASET`.

Both are in folders named by a fingerprint of everything that changes their values. With `encode.store=false` there are
no tars of latents, only their sizes in the index, and training encodes. A dataset without captions gets latents alone.
"""

import shlex
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.captions import TEXT_LEVELS, level_of, text_name
from curate.dataset.dataset import Dataset
from curate.dataset.rows import failure_row
from curate.schema import content_digest
from pipelines.config import Config
from pipelines.console.progress import CLIPS, FRAMES, console
from pipelines.console.readers import fallback_note
from pipelines.execute.build import open_executor
from pipelines.steps.encode import Encoding, encode_missing, text_families
from pipelines.steps.frame_rule import frame_rule
from train.autoencoder.clip import PLACE, EncodeItem
from train.autoencoder.config import EncodeConfig
from train.autoencoder.encode import Encoded, EncodeStage
from train.autoencoder.record import config_of
from train.data.fingerprint import read_record
from train.data.text_embed import TextEmbedded, TextEmbedItem, TextEmbedStage

SOURCE_SIZE = ("source_height", "source_width")
FACTS = ("num_frames", "height", "width", "fps", "window", "start_frame", "clip_frames", *SOURCE_SIZE)
GPU_BATCH = 16
"""Clips that a worker with a GPU takes at a time: it encodes those of one shape together."""
PATCH = (1, 2, 2)
"""Patch (t, h, w) at which `num_tokens` of the index is counted; a model with another patch counts for itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodeSummary:
    """What the dataset has now.

    Attributes:
        latents: Fingerprint of the latents.
        text: Fingerprint of the text embeddings; None: no clip has, or had, a caption.
        num_clips: Clips with latents, `num_windows` of them in all.
        num_tokens: Of these, at `PATCH`.
        frame_rule: Frames and sides that the autoencoder takes, and how many frames that leaves out.
        num_uncaptioned: Clips of the index that have no text.
        captions: Level → texts that are embedded, variants too.
        captions_cut: Level → those of them that are cut off at `max_text_tokens`.
        max_text_tokens: Setting `text.max_tokens`.
        num_failed: Items that failed in this run.
        reader_note: Which clips of this run PyAV read, and not the chosen reader; None: there are none.
        seconds: What this run took.
    """

    latents: str
    text: str | None
    num_clips: int
    num_windows: int
    num_tokens: int
    frame_rule: str
    num_uncaptioned: int
    captions: Mapping[str, int]
    captions_cut: Mapping[str, int]
    max_text_tokens: int
    num_failed: int
    reader_note: str | None
    seconds: float

    @property
    def why_nothing(self) -> str:
        """What to say where no clip has latents."""
        return f"no clip is encoded: {self.num_failed} failed, or the index is empty"

    @property
    def num_captions(self) -> int:
        return sum(self.captions.values())

    @property
    def num_captions_cut(self) -> int:
        return sum(self.captions_cut.values())


def encode(url: str, config: Config) -> EncodeSummary:
    """Encode the indexed clips, and the captions they have, that are not encoded yet.

    Raises:
        ValueError: the dataset has no index, another command encodes it, or weights are missing.
    """
    dataset = Dataset(url)
    index = dataset.read_index()
    config.media.build().setup()
    with dataset.writer("latents"):
        return _encode(dataset, index, config)


def _encode(dataset: Dataset, index: pa.Table, config: Config) -> EncodeSummary:
    start = time.monotonic()
    rows, texts = index.to_pylist(), _texts(dataset, index)
    encodings_of = {one.kind: one for one in encodings(dataset, index, config)}
    if note := _note_of_windows(dataset, config.encode, encodings_of["latents"].record):
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    command = shlex.join(["reelpack", "encode", dataset.url])
    failures: list[dict[str, Any]] = []

    def run(encoding: Encoding) -> str:
        failed = encode_missing(dataset, executor, encoding, rows, config.execute)
        failures.extend(failure_row(failure, encoding.fingerprint, command) for failure in failed)
        return encoding.fingerprint

    for name, section in (("encode", config.encode), ("encode_media", config.media), ("encode_text", config.text)):
        dataset.save_section(name, section.model_dump(mode="json"))  # a run that is stopped resumes with them
    with open_executor(config.execute) as executor:
        # Text takes minutes: what is wrong with it is known first.
        text = run(encodings_of["text"]) if "text" in encodings_of else None
        latents = run(encodings_of["latents"])
    dataset.failures.publish(failures)
    stored = dataset.encoded_index("latents", latents)
    assert stored is not None, "it was written now"
    captions, captions_cut = ({}, {}) if text is None else _count(dataset.encoded_index("text", text))
    return EncodeSummary(
        latents=latents,
        text=text,
        num_clips=pc.count_distinct(stored["clip_id"]).as_py(),
        num_windows=stored.num_rows,
        num_tokens=sum(stored["num_tokens"].to_pylist()),
        frame_rule=frame_rule(encodings_of["latents"].record, stored),
        num_uncaptioned=sum(row["clip_id"] not in texts for row in rows),
        captions=captions,
        captions_cut=captions_cut,
        max_text_tokens=config.text.max_tokens,
        num_failed=len(failures),
        reader_note=fallback_note(config.media, encodings_of["latents"].fallbacks),
        seconds=time.monotonic() - start,
    )


def encodings(dataset: Dataset, index: pa.Table, config: Config) -> list[Encoding]:
    """What the step makes: text embeddings where there is a caption, or was one, and latents.

    Raises:
        ValueError: weights are missing.
    """
    rows, texts = index.to_pylist(), _texts(dataset, index)
    has_text = bool(texts) or bool(dataset.fingerprints("text"))
    return [
        *([_text(dataset, rows, texts, config)] if has_text else []),
        _latents(dataset, rows, config),
    ]


def _note_of_windows(dataset: Dataset, config: EncodeConfig, record: Mapping[str, Any]) -> str | None:
    """What is begun again, where the dataset has latents that differ in `windows` alone: its default has changed."""
    names = dataset.fingerprints("latents")
    if record["fingerprint"] in names or config.windows == "middle":
        return None
    for name in names:
        other = read_record(dataset.layout.encoded("latents", name)) or {}
        if other.get("autoencoder_fingerprint") == record["autoencoder_fingerprint"] and "config" in other:
            update = {"windows": "all", "autoencoder": config.autoencoder}
            if config_of(other).model_copy(update=update) == config:
                return (
                    f"latents {name} have one window of each clip; all clips are encoded again, to "
                    f"{record['fingerprint']}, with every window. To continue {name}: --set encode.windows=middle"
                )
    return None


def _texts(dataset: Dataset, index: pa.Table) -> dict[str, dict[str, str]]:
    """Clip id → name → text: every level and variant that conditions a model."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    texts = dataset.texts(index)
    for row in texts.filter(pc.is_in(texts["level"], pa.array(TEXT_LEVELS))).to_pylist():
        if row["text"]:
            found[row["clip_id"]][text_name(row["level"], row["variant"])] = row["text"]
    return dict(found)


def _latents(dataset: Dataset, index: Sequence[Mapping[str, Any]], config: Config) -> Encoding:
    stage = EncodeStage(config.encode, dataset.layout.shards, media=config.media)
    fallbacks = Counter[str]()

    def facts(result: Encoded) -> dict[str, Any]:
        c, t, h, w = result.shape
        fallbacks.update([result.fallback] if result.fallback else [])
        return {
            **{name: getattr(result, name) for name in FACTS},
            **{"latent_c": c, "latent_t": t, "latent_h": h, "latent_w": w},
            "num_tokens": -(-t // PATCH[0]) * -(-h // PATCH[1]) * -(-w // PATCH[2]),
        }

    return Encoding(
        kind="latents",
        record=stage.fingerprint_record(),
        stage=stage,
        items={row["clip_id"]: EncodeItem(**{name: row[name] for name in PLACE}) for row in index},
        sources={row["clip_id"]: row["digest"] for row in index},
        tensors=(lambda result: result.tensors) if config.encode.store else None,
        codebook=stage.codebook(),
        facts=facts,
        results=lambda windows: windows,
        fallbacks=fallbacks,
        batch_size=GPU_BATCH if config.execute.gpus_per_worker or stage.device.type != "cpu" else 1,
        name="encode",
        unit=FRAMES,
    )


def _text(
    dataset: Dataset, index: Sequence[Mapping[str, Any]], texts: Mapping[str, Mapping[str, str]], config: Config
) -> Encoding:
    stage = TextEmbedStage(config.text.pinned())
    families = text_families(dataset)
    record = {**stage.fingerprint_record(), "captions": families}
    record["fingerprint"] = content_digest("text", record["fingerprint"], *families)[:16]

    def facts(result: TextEmbedded) -> dict[str, Any]:
        return {
            "names": list(result.states),
            "num_tokens": [len(states) for states in result.states.values()],
            "num_uncut_tokens": [result.num_uncut[name] for name in result.states],
        }

    return Encoding(
        kind="text",
        record=record,
        stage=stage,
        items={clip_id: TextEmbedItem(clip_id=clip_id, captions=of_clip) for clip_id, of_clip in texts.items()},
        sources={row["clip_id"]: _digest(texts.get(row["clip_id"], {})) for row in index},
        tensors=lambda result: result.states,
        facts=facts,
        results=lambda embedded: [embedded],
        batch_size=32,
        name="embed text",
        unit=CLIPS,
    )


def _digest(texts: Mapping[str, str]) -> str:
    """Names what a clip's embeddings are made of. An earlier reelpack gave other digests. Its rows count no tokens of
    variants, and its embeddings are made again."""
    return content_digest("texts", *(part for pair in sorted(texts.items()) for part in pair))


def _count(index: pa.Table | None) -> tuple[Counter[str], Counter[str]]:
    """Level → embedded texts, and those of them that were cut off."""
    captions, cut = Counter[str](), Counter[str]()
    for row in [] if index is None else index.to_pylist():
        texts = zip(*(row[name] or () for name in ("names", "num_tokens", "num_uncut_tokens")), strict=True)
        for name, num_tokens, num_uncut in texts:
            captions[level_of(name)] += 1
            cut[level_of(name)] += num_tokens < num_uncut
    return captions, cut
