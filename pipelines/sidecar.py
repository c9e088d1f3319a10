"""The user's own columns (title, licence, source, alt-text …): a table keyed by path, carried to every clip."""

from collections.abc import Collection, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from curate.place import locate
from curate.select import SelectConfig
from curate.store import write_parquet
from pipelines.dataset import Dataset
from pipelines.tables import CLIPS, INDEX, PUBLIC_COLUMNS

PATH = "path"


def read_sidecar(url: str) -> pa.Table:
    """Read a CSV, JSONL or Parquet file with a column `path`.

    Raises:
        ValueError: it is not there or not readable, has no `path`, names a path twice, or a column would hide one of
            the dataset's.
    """
    fs, path = locate(url)
    try:
        with fs.open(path, "rb") as file:
            if path.endswith(".parquet"):
                table = pq.read_table(file)
            elif path.endswith((".jsonl", ".ndjson")):
                table = pyarrow.json.read_json(file)
            elif path.endswith(".csv"):
                table = pyarrow.csv.read_csv(file)
            else:
                raise ValueError(f"--sidecar {url}: expected a file that ends in .csv, .jsonl or .parquet")
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"--sidecar {url}: cannot be read ({error})") from error
    if PATH not in table.column_names:
        raise ValueError(f"--sidecar {url}: got the columns {table.column_names}, expected one named `{PATH}`")
    taken = {*CLIPS.names, *INDEX.names, *PUBLIC_COLUMNS, *SelectConfig.model_fields, "uri"}
    if clash := sorted(taken & set(table.column_names)):
        raise ValueError(f"--sidecar {url}: the columns {', '.join(clash)} are the dataset's own; rename yours")
    paths = table[PATH].to_pylist()
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise ValueError(f"--sidecar {url}: the path {twice!r} stands in more than one row")
    return table


def store_sidecar(dataset: Dataset, url: str, listed: Sequence[str]) -> int:
    """Keep the columns of the files that are inputs, now or in earlier runs; returns the rows without a file.

    A row is of the file whose URI is its path, or ends with it: `films/a.mp4` is of `/data/films/a.mp4`. What was kept
    before is replaced for the inputs of this run; those of earlier runs keep it where this table does not name them.

    Raises:
        ValueError: the file cannot be used (`read_sidecar`), or has a column whose type does not go with what is kept.
    """
    table = read_sidecar(url)
    by_path = {path: row for row, path in enumerate(table[PATH].to_pylist())}
    rows, owners = [], []
    for uri in sorted({*listed, *dataset.videos.read()["uri"].to_pylist()}):
        row = next((by_path[tail] for tail in _tails(uri) if tail in by_path), None)
        if row is not None:
            rows.append(row)
            owners.append(uri)
    given = table.drop_columns([PATH]).take(pa.array(rows, pa.int64()))
    given = given.add_column(0, "uri", pa.array(owners, pa.string()))
    kept = _without(dataset.sidecar(), {*listed, *owners})
    if kept is not None:
        try:
            given = pa.concat_tables([given, kept], promote_options="permissive").sort_by("uri")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ValueError(
                f"--sidecar {url}: its columns do not go with those of earlier inputs, which are kept ({error}); give "
                "them the same type, or name the earlier inputs in it, too"
            ) from error
    write_parquet(f"{dataset.url}/tables/sidecar.parquet", given)
    return table.num_rows - len(set(rows))


def columns_by_clip(dataset: Dataset, clips: pa.Table) -> dict[str, dict[str, object]]:
    """Clip id → the user's columns, for the samples' .json; empty where there is no sidecar."""
    sidecar = dataset.sidecar()
    if sidecar is None:
        return {}
    own = [name for name in sidecar.column_names if name != "uri"]
    known = set(sidecar["uri"].to_pylist())
    rows = clips.select(["clip_id", "video_uri", *own]).to_pylist()
    return {row["clip_id"]: {name: row[name] for name in own} for row in rows if row["video_uri"] in known}


def _without(sidecar: pa.Table | None, uris: Collection[str]) -> pa.Table | None:
    """The rows of other files; None where there are none."""
    if sidecar is None:
        return None
    rest = sidecar.filter(pc.invert(pc.is_in(sidecar["uri"], pa.array(sorted(uris), pa.string()))))
    return rest if rest.num_rows else None


def _tails(uri: str) -> list[str]:
    """The URI and what follows each of its slashes, the longest first."""
    cuts = [0, *(position + 1 for position, char in enumerate(uri) if char == "/")]
    return [uri[cut:] for cut in cuts]
