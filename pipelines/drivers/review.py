"""review.jsonl → the family `human`, and the texts in the index. The driver behind `reelpack caption --review`, and
behind what is saved in a served report."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from caption.record import record_row
from caption.review import apply_review, read_review
from curate.dataset.dataset import Dataset
from curate.dataset.judged import HUMAN
from curate.storage.place import locate
from pipelines.dataset import check_cut, config_of


@dataclass(frozen=True, kw_only=True, slots=True)
class ReviewSummary:
    """What a review changed.

    Attributes:
        num_lines: Judgments in the file.
        actions: New records by `prompt_id`.
        num_unchanged: Judgments that were stored already.
        left_out: Line number and reason, of judgments that no longer fit the dataset.
    """

    num_lines: int
    actions: Mapping[str, int]
    num_unchanged: int
    left_out: tuple[tuple[int, str], ...]


def review(url: str, file: str) -> ReviewSummary:
    """Store the judgments of a review, and write the index with the texts that count now.

    Raises:
        ValueError: no dataset, no such file, or a line that is no judgment; nothing is stored then.
    """
    return store_judgments(url, _lines(file), f"--review {file}")


def store_judgments(url: str, lines: Iterable[str], where: str) -> ReviewSummary:
    """The same for lines that are no file; `where` names them in errors."""
    dataset = Dataset(url)
    check_cut(dataset)
    judgments = read_review(lines, where)
    with dataset.writer("captions"):
        index = dataset.read_index()
        judged = pa.array(sorted({judgment.clip_id for judgment in judgments.values()}), pa.string())
        cut = index.filter(pc.is_in(index["clip_id"], judged))
        rows = dataset.current_records(cut, ["text"]).to_pylist()
        table = dataset.captions(HUMAN)
        applied = apply_review(
            judgments,
            frozenset(cut["clip_id"].to_pylist()),
            {(row["clip_id"], row["level"], row["variant"]): row["text"] for row in rows},
            {(row["clip_id"], row["level"], row["variant"]): row for row in table.rows()},
        )
        dataset.check_writer()
        table.publish(map(record_row, applied.records))
        dataset.write_index(config_of(dataset).shards.key)
    return ReviewSummary(
        num_lines=len(judgments),
        actions=Counter(record.prompt_id for record in applied.records),
        num_unchanged=applied.num_unchanged,
        left_out=applied.left_out,
    )


def _lines(file: str) -> list[str]:
    fs, path = locate(file)
    try:
        return fs.cat_file(path).decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--review {file}: cannot be read ({error}); expected review.jsonl of the report") from error
