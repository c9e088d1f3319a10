"""A map of the clips' embeddings: their first two principal components, for an even random sample of them."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.dataset import Dataset
from curate.dedup.semantic import Embeddings, cluster
from curate.report.columns import pack_numbers, pack_strings
from curate.report.data import DatasetView
from curate.report.explorer import DECISIONS
from curate.scores.embedding import EmbeddingConfig

MAX_POINTS = 10_000
NUM_CLUSTERS = 8
"""Colors that are told apart."""
STEPS = 10_000
"""The longer side of the map is from -STEPS to STEPS; places are whole numbers."""
EMBEDDING = EmbeddingConfig.model_fields["kind"].default


@dataclass(frozen=True, kw_only=True, slots=True)
class Points:
    """`places` (N, 2) int16 of the clips `ids`, their `clusters` (N,), the share of the variance that the two
    components have, and how many clips could have been drawn."""

    ids: tuple[str, ...]
    places: npt.NDArray[np.int16]
    clusters: npt.NDArray[np.int64]
    share: float
    total: int

    def inside(self, box: tuple[float, float, float, float]) -> list[str]:
        """Clips in a box of the map: left, bottom, right, top, each from -1 to 1."""
        low, high = np.rint(np.array(box).reshape(2, 2) * STEPS)
        within = ((self.places >= low) & (self.places <= high)).all(1)
        return [self.ids[row] for row in np.flatnonzero(within)]


def points(view: DatasetView) -> Points | None:
    """None where fewer than three clips have an embedding."""
    dataset = Dataset(view.url)
    schema = {EMBEDDING: pa.list_(pa.float32())}
    tables = [dataset.scores(family, schema) for family in view.made_with.get("families", ())]
    table = next((one for one in tables if EMBEDDING in one.stored_schema().names), None)
    if table is None:
        return None
    rows = np.random.default_rng(0).permutation(view.clips.num_rows)[:MAX_POINTS]
    sample = view.clips["clip_id"].take(np.sort(rows)).to_pylist()
    found = Embeddings.of(table.parts([EMBEDDING]), EMBEDDING, sample)
    if len(found) < 3:
        return None
    places, share = project(found.vectors.astype(np.float32))
    clusters = cluster(found.vectors, min(NUM_CLUSTERS, len(found)))
    return Points(
        ids=tuple(found.ids.to_pylist()), places=places, clusters=clusters, share=share, total=view.clips.num_rows
    )


def project(vectors: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int16], float]:
    """The first two principal components of `(N, d)`, centered and scaled to `STEPS`, and their share of the variance.

    The sign of a component is that which makes its largest loading positive, so equal vectors give equal maps.
    """
    centered = vectors - vectors.mean(0)
    variances, axes = np.linalg.eigh(centered.T @ centered)
    axes = axes[:, :-3:-1]
    axes *= np.sign(axes[np.abs(axes).argmax(0), range(axes.shape[1])])
    flat = centered @ axes
    largest = np.abs(flat).max() or 1.0
    total = variances.sum()
    return np.rint(flat / largest * STEPS).astype(np.int16), float(
        variances[:-3:-1].sum() / total
    ) if total > 0 else 0.0


def embedding_map(view: DatasetView, found: Points | None) -> str:
    """The section: an empty frame that map.js draws into, and the places; empty without embeddings."""
    if found is None:
        return ""
    data = json.dumps(_data(view, found), separators=(",", ":"))  # numbers and base64: nothing ends the element
    of, those = (f" of {found.total:,}", ", of those on the map") if len(found.ids) < found.total else ("", "")
    return (
        f'<p class="muted">{len(found.ids):,}{of} clips by their embeddings: the two principal components, which have '
        f"{100 * found.share:.0f} % of the variance. Near clips look similar; far ones can too. Draw a box to see the "
        f'clips in it{those}.</p><div id="points">'
        "<noscript>A script draws the map, which does not run here.</noscript></div>"
        f'<script type="application/json" id="points-data">{data}</script>'
    )


def _data(view: DatasetView, found: Points) -> dict[str, Any]:
    rows = pc.index_in(pa.array(found.ids), view.clips["clip_id"].combine_chunks())
    decisions = pc.index_in(view.clips["decision"].take(rows), DECISIONS)
    return {
        "ids": pack_strings(found.ids),
        "x": pack_numbers(found.places[:, 0]),
        "y": pack_numbers(found.places[:, 1]),
        "decisions": pack_numbers(decisions.to_numpy().astype(np.int8)),
        "clusters": pack_numbers(found.clusters.astype(np.int8)),
        "steps": STEPS,
        "total": found.total,
    }


def box_of(text: str) -> tuple[float, float, float, float] | None:
    """Left, bottom, right, top of a box in the address; None of an empty text.

    Raises:
        ValueError: the text is no box.
    """
    if not text:
        return None
    try:
        left, bottom, right, top = map(float, text.split(","))
    except ValueError:
        raise ValueError(f"box: got {text[:40]!r}, expected left,bottom,right,top") from None
    return left, bottom, right, top
