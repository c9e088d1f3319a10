"""What the blend makes of a dataset: which levels of captions an epoch draws, and how many tokens their texts have.
Reads indices, no tensors."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.captions import level_of
from curate.storage.place import AnyPath
from curate.storage.publish import write_text
from train.data.blend import ORDER
from train.data.epoch import EpochSamples
from train.data.manifest import Manifest
from train.data.plan import PlannedSample
from train.data.read import ClipReader
from train.data.sample import SampleBuilder
from train.data.texts import levels_of, read_texts
from train.run.config import TrainConfig

MAX_ROWS = 20_000
"""Rows of a manifest whose draws are made, spread evenly: shares are then known to a third of a percent."""
NUM_BINS = 16
FILE = "blend.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelForecast:
    """One level of captions.

    Attributes:
        level: Its name.
        weight: Share by the weights of `train.data.blend` alone.
        expected: Share of the captioned samples: weights of the levels that each clip has, divided by their sum.
        drawn: Share of the captioned samples, as the first epoch draws them.
        num_texts: Embedded texts of the training clips, variants too.
        num_cut: Those that `text.max_tokens` cuts off.
        tokens: Texts by their number of tokens before they are cut: a count for each of `BlendForecast.edges`, up to
            which it reaches, and one for longer texts.
        median_tokens, most_tokens: Of the texts before they are cut; 0 without any.
    """

    level: str
    weight: float
    expected: float
    drawn: float
    num_texts: int
    num_cut: int
    tokens: tuple[int, ...]
    median_tokens: int
    most_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BlendForecast:
    """Captions of an epoch.

    Attributes:
        levels: Those that are drawn, or that texts have.
        num_samples: Samples of the first epoch whose draws were made.
        captioned: Share of them that are trained under a caption.
        dropped: Share whose caption is dropped (`caption_dropout`, `null_dropout`).
        uncaptioned: Share of clips that have no text of the blend.
        max_tokens: Of the text encoder; None: not known.
        edges: Numbers of tokens at which the bins of `LevelForecast.tokens` end.
        clips: Kind ("video", "image") → training clips with a text of the blend, and all of them.
    """

    levels: tuple[LevelForecast, ...]
    num_samples: int
    captioned: float
    dropped: float
    uncaptioned: float
    max_tokens: int | None
    edges: tuple[int, ...]
    clips: Mapping[str, tuple[int, int]]

    def write(self, run: AnyPath) -> None:
        """Keep it with a run, for its report."""
        write_text(str(run / FILE), json.dumps(asdict(self), indent=1) + "\n")


def blend_of(config: TrainConfig, manifest: Manifest) -> BlendForecast | None:
    """Draw the captions of the first epoch as training draws them; None for a model without captions, and for an index
    of text embeddings that does not name its texts."""
    texts = read_texts(manifest)
    if not config.model.reads_captions or texts["names"].null_count:
        return None
    shares, drawn, num_samples, num_dropped = _draws(config, manifest, texts)
    num_captioned = sum(drawn.values())
    clips = _clips_by_kind(config, manifest, texts)
    lengths = _lengths(texts.take(_first_of_clips(manifest)))
    limit = manifest.text.get("max_tokens")
    edges = _edges(np.concatenate([np.zeros(0, np.int64), *(uncut for _, uncut in lengths.values())]), limit)
    weights = {level: getattr(config.data.blend, level) for level in ORDER}
    levels = [level for level in ORDER if weights[level] or level in lengths]
    none = (np.zeros(0, np.int64),) * 2
    return BlendForecast(
        levels=tuple(
            LevelForecast(
                level=level,
                weight=weights[level] / sum(weights.values()),
                expected=shares[level] / max(1, num_captioned),
                drawn=drawn[level] / max(1, num_captioned),
                **_facts(*lengths.get(level, none), edges),
            )
            for level in levels
        ),
        num_samples=num_samples,
        captioned=num_captioned / max(1, num_samples),
        dropped=num_dropped / max(1, num_samples),
        uncaptioned=(num_samples - num_dropped - num_captioned) / max(1, num_samples),
        max_tokens=limit,
        edges=edges,
        clips=clips,
    )


def _clips_by_kind(config: TrainConfig, manifest: Manifest, texts: pa.Table) -> Mapping[str, tuple[int, int]]:
    rows = _first_of_clips(manifest)
    is_image = pc.equal(manifest.column("kind"), "image").to_numpy()[rows]
    drawn = [level in config.data.blend.levels for level in ORDER]
    has = levels_of(texts)[rows][:, drawn].any(1)
    by_kind = {"video": ~is_image, "image": is_image}
    return {kind: (int(has[of].sum()), int(of.sum())) for kind, of in by_kind.items() if of.any()}


def _draws(
    config: TrainConfig, manifest: Manifest, texts: pa.Table
) -> tuple[Mapping[str, float], Counter[str], int, int]:
    """Of samples of the first epoch: sums of the shares of each level, how often each is drawn, the samples, and those
    whose caption is dropped."""
    data = config.data
    samples = EpochSamples(manifest, data.epoch, data.plan, config.seed)
    reader = ClipReader(manifest, config.model.patch)
    builder = SampleBuilder(samples, reader, config.objective.build(), data, config.model, config.seed)
    rows = np.unique(np.linspace(0, max(0, len(manifest) - 1), min(len(manifest), MAX_ROWS)).round().astype(np.int64))
    repeats, tokens = samples.in_epoch(rows, 0)
    names_of_rows = texts["names"].take(pa.array(rows)).to_pylist()
    shares, drawn, num_dropped = defaultdict[str, float](float), Counter[str](), 0
    for row, count, num_tokens, names in zip(
        rows.tolist(), repeats.tolist(), tokens.tolist(), names_of_rows, strict=True
    ):
        for occurrence in range(count):
            u = builder.draws(PlannedSample(row, occurrence, num_tokens), 0).caption
            num_dropped += u is None
            if u is not None and (name := data.blend.draw(names, u)) is not None:
                drawn[level_of(name)] += 1
                for text, share in data.blend.shares(names).items():
                    shares[level_of(text)] += share
    return shares, drawn, int(repeats.sum()), num_dropped


def _first_of_clips(manifest: Manifest) -> np.ndarray:
    """A row of each clip: those of several sizes are adjacent, and have the same texts."""
    keys = manifest.keys
    return np.flatnonzero(np.concatenate([keys[:1] == keys[:1], keys[1:] != keys[:-1]]))


def _lengths(texts: pa.Table) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Level → tokens of each of its texts as stored, and before they are cut: (n,) int64 each."""
    names = pc.list_flatten(texts["names"]).combine_chunks().dictionary_encode()
    stored, uncut = (
        pc.list_flatten(texts[name]).cast(pa.int64()).to_numpy() for name in ("num_tokens", "num_uncut_tokens")
    )
    levels = np.array([level_of(name) for name in names.dictionary.to_pylist()], object)[names.indices.to_numpy()]
    return {level: (stored[levels == level], uncut[levels == level]) for level in ORDER if (levels == level).any()}


def _edges(uncut: np.ndarray, limit: int | None) -> tuple[int, ...]:
    """Ends of bins, a power of two apart, up to the limit of the encoder or the longest text."""
    most = int(uncut.max(initial=1))
    last = most if limit is None else min(most, limit)
    width = 1 << max(0, (-(-last // NUM_BINS) - 1).bit_length())
    return (*range(width, last, width), last)


def _facts(stored: np.ndarray, uncut: np.ndarray, edges: Sequence[int]) -> dict[str, Any]:
    """What is known of the texts of a level by their numbers of tokens."""
    bins = np.bincount(np.searchsorted(edges, uncut), minlength=len(edges) + 1)
    return {
        "num_texts": len(uncut),
        "num_cut": int((stored < uncut).sum()),
        "tokens": tuple(bins.tolist()),
        "median_tokens": int(np.median(uncut)) if len(uncut) else 0,
        "most_tokens": int(uncut.max(initial=0)),
    }
