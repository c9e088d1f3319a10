"""The user's own columns (title, licence, source, alt-text …): a table keyed by path, carried to every clip."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.dataset import Dataset
from curate.dataset.forgotten import without
from curate.dataset.store import write_parquet
from curate.storage.access import public
from curate.storage.place import is_url, locate
from pipelines.inputs.own_columns import TAKEN, laid_over
from pipelines.inputs.sidecar_file import PATH, SidecarConfig, read_file


def read_sidecar(url: str, config: SidecarConfig | None = None) -> pa.Table:
    """The user's table: `path`, and columns that are not the dataset's.

    Raises:
        ValueError: as `read_file`; or a column would hide one of the dataset's, or a path stands in two rows.
    """
    table, where = read_file(url, config or SidecarConfig()), f"--sidecar {public(url)}"
    if clash := sorted(TAKEN & set(table.column_names)):
        raise ValueError(f"{where}: the columns {', '.join(clash)} are the dataset's own; rename yours")
    rows_of = defaultdict(list)
    for row, path in enumerate(table[PATH].to_pylist()):
        rows_of[_normal(path)].append(row)
    if twice := next((rows for rows in rows_of.values() if len(rows) > 1), None):
        one, other = (table[PATH][row].as_py() for row in twice[:2])
        spelled = f"the path {one!r}" if one == other else f"{one!r} and {other!r}, which are one path,"
        raise ValueError(f"{where}: {spelled} stands in more than one row ({twice[0] + 1} and {twice[1] + 1})")
    return table


def store_sidecar(
    dataset: Dataset, url: str, table: pa.Table, listed: Sequence[str], own: pa.Table | None = None
) -> int:
    """Keep the columns of the files that are inputs, now or in earlier runs; returns the rows without a file.

    A row is of the file whose URI is its path, or ends with it: `films/a.mp4` is of `/data/films/a.mp4`; of several
    rows the longest. It is of one file: an input of this run, or where none is meant, of an earlier one. What was kept
    before is replaced for the inputs of this run; those of earlier runs keep it where this table does not name them.
    `own` are columns that came with the inputs of this run; those of the table stand over them.

    Raises:
        ValueError: a row is of several files, or a column has another type than what is kept.
    """
    where = f"--sidecar {public(url)}"
    by_path = {_normal(path): row for row, path in enumerate(table[PATH].to_pylist())}
    owner = _owners(by_path, listed, where)
    earlier = [uri for uri in dataset.videos.read(["uri"])["uri"].to_pylist() if uri not in set(listed)]
    left = {path: row for path, row in by_path.items() if row not in owner}
    owner |= _owners(left, earlier, where)
    rows = sorted(owner, key=lambda row: owner[row])
    given = table.drop_columns([PATH]).take(pa.array(rows, pa.int64()))
    given = given.add_column(0, "uri", pa.array([owner[row] for row in rows], pa.string()))
    kept = _without(dataset.sidecar(), {*listed, *owner.values()})
    if kept is not None or own is not None:
        try:
            given = laid_over(laid_over(kept, own), given)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ValueError(
                f"{where}: its columns do not fit those of earlier inputs, which are kept ({error}); give "
                "them the same type (--set sidecar.types.NAME=int), or name the earlier inputs in it, too"
            ) from error
    _write(dataset, given)
    return table.num_rows - len(owner)


def store_own(dataset: Dataset, own: pa.Table) -> None:
    """Keep the columns that came with the inputs, over those that these inputs had.

    Raises:
        ValueError: a column has another type than what is kept.
    """
    try:
        table = laid_over(dataset.sidecar(), own)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(
            f"the columns that the inputs bring do not fit those that are kept ({error}); give them the same type "
            "(--set sidecar.types.NAME=int for lists), or curate into a new directory"
        ) from error
    assert table is not None
    _write(dataset, table)


def _write(dataset: Dataset, table: pa.Table) -> None:
    """Nothing is kept of files that were taken down."""
    write_parquet(dataset.layout.sidecar, without(table, "uri", dataset.tombstones().uris))


def num_changed(dataset: Dataset, before: pa.Table | None) -> int:
    """Number of inputs whose clips can be in tars with other columns than they have now: members are written once.

    Args:
        before: the columns as they were when the clips were cut.
    """
    if not dataset.shards.read(["clip_id"]).num_rows:
        return 0
    old, new = _values(before), _values(dataset.sidecar())
    return sum(old.get(uri) != new.get(uri) for uri in set(dataset.videos.read(["uri"])["uri"].to_pylist()))


def _values(table: pa.Table | None) -> dict[str, dict[str, object]]:
    """URI → its columns, those that are null left out; nothing for URIs without any."""
    rows = [] if table is None else table.to_pylist()
    given = {row.pop("uri"): {name: value for name, value in row.items() if value is not None} for row in rows}
    return {uri: row for uri, row in given.items() if row}


def _owners(by_path: Mapping[str, int], uris: Iterable[str], where: str) -> dict[int, str]:
    """Row → its file; rows of no file are left out."""
    files = defaultdict(list)
    for uri in sorted(set(uris)):
        path = next((tail for tail in _tails(_normal(uri)) if tail in by_path), None)
        if path is not None:
            files[path].append(uri)
    for path, found in files.items():
        if len(found) > 1:
            raise ValueError(
                f"{where}: the path {path!r} is of {len(found)} inputs, such as {found[0]} and {found[1]}; "
                "write as much of each one's path as tells them apart, one row per file"
            )
    return {by_path[path]: uri for path, (uri,) in files.items()}


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


def _normal(path: str) -> str:
    """One spelling of a path or URL: its letters composed (NFC), no `./`, doubled slashes, `file://` and signature."""
    path = public(unicodedata.normalize("NFC", path))
    if is_url(path):
        return path
    if path.startswith("file://"):
        path = locate(path)[1]
    return re.sub(r"^(\./)+", "", re.sub(r"/(\./|/)+", "/", path))


def _tails(uri: str) -> list[str]:
    """The URI and what follows each of its slashes, the longest first."""
    cuts = [0, *(position + 1 for position, char in enumerate(uri) if char == "/")]
    return [uri[cut:] for cut in cuts]
