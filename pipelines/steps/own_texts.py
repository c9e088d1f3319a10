"""The texts of the user that scorers read, and which stored values are of the texts as they are now."""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.dataset import Dataset
from curate.scores.config import ScoreConfig
from curate.scores.score import TEXT_DIGEST, text_digest


def check_columns(config: ScoreConfig, columns: Mapping[str, pa.DataType], own: list[str]) -> None:
    """See that the columns that scorers read are texts of the user.

    Args:
        config: the scorers.
        columns: every column and its type.
        own: those of them that are the user's.

    Raises:
        ValueError: there is no such column, or it holds something else than text.
    """
    for kind, column in config.reads.items():
        where = f"score.scorers.{kind}.column={column}"
        if column not in own:
            has = f"yours are {', '.join(sorted(own))}" if own else "you brought none: --sidecar FILE"
            raise ValueError(f"{where}: no such column; {has}")
        if not (pa.types.is_string(columns[column]) or pa.types.is_large_string(columns[column])):
            raise ValueError(f"{where}: expected a column of text, got {columns[column]}")


def own_texts(dataset: Dataset, column: str) -> dict[str, str]:
    """URI → its text, without those that have none."""
    sidecar = dataset.sidecar()
    if sidecar is None or column not in sidecar.column_names:
        return {}
    texts = zip(sidecar["uri"].to_pylist(), sidecar[column].to_pylist(), strict=True)
    return {uri: text.strip() for uri, text in texts if isinstance(text, str) and text.strip()}


def of_texts_now(scored: pa.Table, clips: Mapping[str, str], texts: Mapping[str, str]) -> pa.Table:
    """The rows of a family's table whose values are of the texts as they are now, without the column that says so.

    Args:
        scored: with the column `TEXT_DIGEST`.
        clips: clip id → URI.
        texts: URI → text.
    """
    rows = zip(scored["clip_id"].to_pylist(), scored[TEXT_DIGEST].to_pylist(), strict=True)
    now = pa.array([text_digest(texts.get(clips.get(name, ""))) == digest for name, digest in rows], pa.bool_())
    return scored.filter(pc.fill_null(now, False)).drop_columns([TEXT_DIGEST])
