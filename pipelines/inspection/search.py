"""Clips that are nearest to a text, a picture or another clip, by the embeddings that `curate` stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeGuard

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.captions import texts_of
from curate.dataset.dataset import Dataset
from curate.dedup.semantic import BLOCK, SCALE, Embeddings
from curate.encoders.base import ImageEncoder, ImageTextEncoder
from curate.media.frames import shrink
from curate.media.still import read_still
from curate.schema import MediaError
from curate.scores.embedding import EmbeddingConfig
from curate.scores.score import ScoreStage
from pipelines.dataset import config_of, curate_command
from pipelines.inspection.explain import find_clip
from pipelines.inspection.status import clips_now

EMBEDDING = EmbeddingConfig.model_fields["kind"].default
Decision = Literal["keep", "reject", "pending", "failed", "all"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """What is searched for: one of a text, the path of a picture, and the beginning of a clip id.

    Raises:
        ValueError: none of them is given, or several.
    """

    text: str | None = None
    picture: str | None = None
    clip: str | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.text, self.picture, self.clip) if value is not None]
        if len(given) != 1:
            raise ValueError(
                f"got {len(given)} things to search for, expected one: a text, --like CLIP or --image FILE"
            )
        if not given[0].strip():
            raise ValueError("got an empty text, expected words to search for")

    @property
    def title(self) -> str:
        return self.text or (f"like {self.clip}" if self.clip is not None else f"like {self.picture}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """A clip that was found.

    Attributes:
        clip: Its row of `clips.parquet`.
        cosine: With the query, -1 to 1.
        caption: Its short caption, or another one; None where it has none.
    """

    clip: dict[str, Any]
    cosine: float
    caption: str | None


def search(url: str, query: Query, *, count: int = 20, decision: Decision = "keep") -> list[Hit]:
    """The clips nearest to the query, the nearest first.

    Args:
        url: the dataset directory.
        query: a text needs an image–text encoder in `score.scorers.embedding.encoder`.
        count: of clips.
        decision: only clips of this decision.

    Raises:
        ValueError: no embeddings are stored, their encoder embeds no texts or is no longer there, the picture cannot
            be read, or no clip has an id that begins so.
    """
    dataset = Dataset(url)
    clips = clips_now(dataset)
    family, settings = _embedded(dataset)
    itself = None if query.clip is None else find_clip(clips, query.clip, dataset.url)["clip_id"]
    vector = _of_query(dataset, query, family, settings) if itself is None else _of_clip(dataset, family, itself)
    wanted = clips if decision == "all" else clips.filter(pc.equal(clips["decision"], decision))
    ids = [name for name in wanted["clip_id"].to_pylist() if name != itself]
    found = nearest(_stored(dataset, family, ids), vector, count)
    rows = wanted.filter(pc.is_in(wanted["clip_id"], pa.array([name for name, _ in found], pa.string()))).to_pylist()
    row_of = {row["clip_id"]: row for row in rows}
    captions = _captions(dataset, set(row_of))
    return [Hit(clip=row_of[name], cosine=cosine, caption=captions.get(name)) for name, cosine in found]


def nearest(embeddings: Embeddings, vector: np.ndarray, count: int) -> list[tuple[str, float]]:
    """Ids and cosines of the `count` embeddings nearest to a unit vector (d,); of equal ones the smaller id first.

    Raises:
        ValueError: the vector has another width than the embeddings.
    """
    if not len(embeddings):
        return []
    if embeddings.vectors.shape[1] != len(vector):
        width = embeddings.vectors.shape[1]
        raise ValueError(f"the query has {len(vector)} numbers and the stored embeddings have {width}")
    starts = range(0, len(embeddings), BLOCK)
    cosines = (
        np.concatenate([embeddings.vectors[at : at + BLOCK].astype(np.float32) @ vector for at in starts]) / SCALE
    )
    order = np.argsort(-cosines, kind="stable")[:count]
    return [(embeddings.ids[int(row)].as_py(), float(np.clip(cosines[row], -1, 1))) for row in order]


def ways(url: str) -> tuple[str, ...]:
    """How the clips of a dataset can be searched: `like` a clip, and by the `meaning` of a text; none without
    embeddings. Loads no weights."""
    if (found := _stored_family(Dataset(url))) is None:
        return ()
    return ("meaning", "like") if _reads_text(found[1].used.build()) else ("like",)


def _stored_family(dataset: Dataset) -> tuple[str, EmbeddingConfig] | None:
    """The score family of the dataset's embeddings, and the settings that they were computed with."""
    families = [name for name, columns in dataset.families(or_running=True).items() if EMBEDDING in columns]
    scorers = config_of(dataset, or_running=True).score.complete()
    settings = next((scorer for scorer in scorers.values() if isinstance(scorer, EmbeddingConfig)), None)
    return None if not families or settings is None else (families[0], settings)


def _embedded(dataset: Dataset) -> tuple[str, EmbeddingConfig]:
    """See `_stored_family`.

    Raises:
        ValueError: there are none.
    """
    if (found := _stored_family(dataset)) is None:
        raise ValueError(
            f"{dataset.url}: no embeddings are stored; this computes them, and nothing else again: "
            f"{curate_command(dataset)} --set 'score.scorers.{EMBEDDING}={{}}'"
        )
    return found


def _of_clip(dataset: Dataset, family: str, clip_id: str) -> np.ndarray:
    """A clip's stored embedding (d,)."""
    own = _stored(dataset, family, [clip_id])
    if not len(own):
        raise ValueError(f"{dataset.url}: clip {clip_id} has no embedding; `reelpack explain` tells why")
    return own.vectors[0].astype(np.float32) / SCALE


def _of_query(dataset: Dataset, query: Query, family: str, settings: EmbeddingConfig) -> np.ndarray:
    """A text or a picture as a unit vector (d,) in the space of the dataset's embeddings."""
    encoder: ImageEncoder = settings.used.build()
    if query.text is not None and not _reads_text(encoder):
        raise ValueError(
            f"{dataset.url}: its embeddings are by {settings.used.kind}, which knows pictures alone; --like and "
            "--image search them. A text needs an image–text encoder: curate again with --config clip, or with "
            "--set score.scorers.embedding.encoder.kind=conse, which is embedded and weak"
        )
    made_with = config_of(dataset, or_running=True)
    config = made_with.score.model_copy(update={"scorers": {EMBEDDING: settings}})
    if family not in ScoreStage(config, media=made_with.media).families:
        raise ValueError(
            f"{dataset.url}: its embeddings are by other weights than the encoder {settings.used.kind} has now; "
            f"`{curate_command(dataset)}` computes them again"
        )
    pixels = None if query.picture is None else _picture(query.picture, config.short_side_px)
    encoder = _ready(settings.model_dump_json())
    if query.text is not None and _reads_text(encoder):
        return encoder.embed_texts([query.text])[0]
    assert pixels is not None
    return encoder.embed_features(encoder.backbone.features([pixels]))[0]


@lru_cache(maxsize=1)
def _ready(settings: str) -> ImageEncoder:
    """The encoder of these settings (JSON) with its weights, which a server asks again and again."""
    encoder: ImageEncoder = EmbeddingConfig.model_validate_json(settings).used.build()
    encoder.setup()
    return encoder


def _picture(path: str, short_side_px: int) -> np.ndarray:
    """`(H, W, 3)` uint8."""
    try:
        return shrink(read_still(path), short_side_px)
    except (MediaError, OSError) as error:
        raise ValueError(f"--image {path}: cannot be read as a picture ({error})") from None


def _reads_text(encoder: ImageEncoder) -> TypeGuard[ImageTextEncoder]:
    return hasattr(encoder, "embed_texts")


def _stored(dataset: Dataset, family: str, ids: Sequence[str]) -> Embeddings:
    table = dataset.scores(family, {EMBEDDING: pa.list_(pa.float32())})
    return Embeddings.of(table.parts([EMBEDDING]), EMBEDDING, ids)


def _captions(dataset: Dataset, ids: set[str]) -> dict[str, str]:
    """Clip id → a caption, the short one where there is one, of those that are cut."""
    try:
        index = dataset.read_index()
    except ValueError:  # nothing is cut yet
        return {}
    rows = index.filter(pc.is_in(index["clip_id"], pa.array(sorted(ids), pa.string()))).to_pylist()
    texts = {row["clip_id"]: texts_of(row) for row in rows}
    return {name: own.get("short") or next(iter(own.values())) for name, own in texts.items() if own}
