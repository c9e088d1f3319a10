"""The dataset directory: its tables, who writes them, and the two files that are derived from them.

`clips.parquet` and `shards/index.parquet` are pure functions of the tables and the configuration: they are rewritten
at any time, and equal tables give equal bytes.
"""

import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

import curate.dataset
from curate.dataset.cache import FOUND_IN, KEPT_FROM, code_of, digest_of, open_found, tables_found
from curate.dataset.captions import CAPTION_COLUMNS, LEVELS, caption_column, usable
from curate.dataset.current import FORMER, KEY, CurrentRecords, current_families, current_records, read_sections
from curate.dataset.forgotten import FORGOTTEN, Tombstones
from curate.dataset.judged import HUMAN, unsettled
from curate.dataset.layout import Encoded, Layout
from curate.dataset.ordered import Follower, in_order
from curate.dataset.schemas import (
    CAPTIONS,
    CLIPS,
    DECISIONS,
    FAILURES,
    IDENTITIES,
    INDEX,
    LATENTS,
    SHARD_PLANS,
    SHARDS,
    TEXT,
    VERSIONS,
    VIDEOS,
)
from curate.dataset.sources import DIGEST, SOURCE, of_current
from curate.dataset.store import Table, write_tables
from curate.dataset.table import left_join, open_parquet, read_parquet, tables_of
from curate.errors import Missing, NotADataset
from curate.storage.claims import Claims
from curate.storage.lease import Lease, hold
from curate.storage.place import folders, locate
from curate.storage.publish import write_text
from curate.storage.yaml_text import to_yaml

Writer = Literal["curate", "captions", "latents"]
"""Parts of a dataset, each with its own writers: curation, captioning and encoding can run at the same time."""
COMMIT_WAIT_S = 600.0
"""For another command that is about to write `config.yaml` or the index: seconds, but on a slow store with a large
dataset."""
CLIP_COLUMNS = ("clip_id", "video_id", "kind", "split", "balance_weight")
"""What an index has of `clips.parquet`, beside the user's own columns."""
SCHEMAS: Mapping[Encoded, pa.Schema] = {"latents": LATENTS, "text": TEXT}


class Dataset:
    """One dataset directory, local or remote."""

    def __init__(self, url: str) -> None:
        self.layout = Layout(url)
        self.url = self.layout.url
        self.videos = self._table("videos", VIDEOS, "uri", "scan_key")
        self.identities = self._table("identities", IDENTITIES, "uri")
        self.clips = self._table("clips", CLIPS, "clip_id", "scan_key")
        self.shards = self._table("shards", SHARDS, "clip_id", "cut_key")
        self.shard_plans = self._table("shard_plans", SHARD_PLANS, "clip_id", "cut_key")
        self.failures = self._table("failures", FAILURES, "subject", "step", "key")
        self.versions = self._table("versions", VERSIONS, "number")
        self.decisions = self._table("decisions", DECISIONS, "clip_id", "number")
        self.forgotten = self._table("forgotten", FORGOTTEN, "uri", "video_id")
        self._lease: Lease | None = None

    def _table(self, name: str, schema: pa.Schema, *key: str) -> Table:
        return Table(self.layout.table(name), schema, key)

    @property
    def tables(self) -> list[Table]:
        """Those that every dataset has, without scores and captions."""
        return [
            *(self.identities, self.videos, self.clips, self.shards, self.shard_plans, self.failures),
            *(self.forgotten, self.versions, self.decisions),
        ]

    @contextmanager
    def writer(self, name: Writer) -> Iterator[None]:
        """Be the only process that writes this part of the dataset, for the length of the block.

        Raises:
            Occupied: another is; the message names it.
            ValueError: a take-down was stopped before its end.
        """
        with hold(self.url, name) as lease, self._checked(lease):
            self._check_forgotten()
            yield

    @contextmanager
    def shared_writer(self, name: Writer) -> Iterator[Claims]:
        """Be one of several processes that write this part of the dataset. Each claims what it works on.

        Raises:
            Occupied: another writes it alone; the message names it.
            ValueError: a take-down was stopped before its end.
        """
        with hold(self.url, name, is_shared=True) as lease, self._checked(lease):
            self._check_forgotten()
            yield Claims(lease)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only process that writes any part of the dataset, for the length of the block.

        Raises:
            Occupied: another writes a part; the message names it.
        """
        with ExitStack() as held:
            leases = [held.enter_context(hold(self.url, name)) for name in get_args(Writer)]
            held.enter_context(self._checked(leases[0]))
            yield

    def _check_forgotten(self) -> None:
        if unfinished := [row for row in self.forgotten.read(["is_done"]).to_pylist() if not row["is_done"]]:
            raise ValueError(
                f"{self.url}: a take-down was stopped before its end, of {unfinished[0]['uri']}; finish it first: "
                f"{shlex.join(['reelpack', 'forget', self.url])}"
            )

    def tombstones(self) -> Tombstones:
        """What was taken down."""
        return Tombstones.of(self.forgotten.rows())

    @contextmanager
    def _checked(self, lease: Lease) -> Iterator[None]:
        self._lease = lease
        try:
            yield
        finally:
            self._lease = None

    def check_writer(self) -> None:
        """Called before anything is published.

        Raises:
            LeaseLost: another process may write this part of the dataset by now.
        """
        if self._lease is not None:
            self._lease.check()

    @contextmanager
    def commit(self) -> Iterator[None]:
        """Read, change and write again what several commands write: `config.yaml` and the index. One at a time."""
        self.check_writer()
        with hold(self.url, "commit", wait_s=COMMIT_WAIT_S):
            yield

    def scores(self, family: str, columns: Mapping[str, pa.DataType]) -> Table:
        """Scores of one scorer with one set of parameters and weights: `family` is `<name>-<hash>`."""
        schema = pa.schema([("clip_id", pa.string()), *columns.items()])
        return Table(self.layout.scores(family), schema, ["clip_id"])

    def score_families(self) -> list[str]:
        return folders(self.layout.scores())

    def captions(self, family: str) -> Table:
        """Caption records of one captioner with one prompt set: `family` is `<name>-<hash>`."""
        return Table(self.layout.captions(family), CAPTIONS, KEY, former=FORMER)

    def caption_families(self) -> list[str]:
        return folders(self.layout.captions())

    def encoded(self, kind: Encoded, fingerprint: str) -> Table:
        """The table that the index of latents, or of text embeddings, is written from."""
        key = ["clip_id", "window"] if kind == "latents" else ["clip_id"]
        return Table(self.layout.encoded(kind, fingerprint).parts, SCHEMAS[kind], key)

    def encoded_index(self, kind: Encoded, fingerprint: str) -> pa.Table | None:
        """None where `encode` was stopped before its end."""
        return read_parquet(self.layout.encoded(kind, fingerprint).index)

    def fingerprints(self, kind: Encoded) -> list[str]:
        return folders(self.layout.encoded_root(kind))

    def make(self) -> None:
        """Make the folder, before any work.

        Raises:
            ValueError: it cannot be made there.
        """
        fs, path = locate(self.url)
        try:
            fs.makedirs(path, exist_ok=True)
        except OSError as error:
            raise ValueError(f"--out {self.url}: cannot make this folder ({error}); choose another place") from error

    def compact(self, families: Mapping[str, Mapping[str, pa.DataType]]) -> None:
        """Merge the many small parts that long runs leave; what is read stays the same."""
        for table in (*self.tables, *(self.scores(family, columns) for family, columns in families.items())):
            table.compact()

    def save_section(self, name: str, value: Any) -> None:
        """Record in config.yaml what one step ran with (None: no longer); the other steps' sections stay."""
        with self.commit():
            sections = {**self.sections(), name: value}
            if value is None:
                del sections[name]
            write_text(self.layout.config, to_yaml(sections))

    def sections(self) -> dict[str, Any]:
        return read_sections(self.layout)

    @property
    def is_running(self) -> bool:
        """Whether a `curate`, or a decision, has begun and not ended: it runs now, or was killed."""
        return "running" in self.sections()

    @property
    def caption_family(self) -> str | None:
        """The captioner and prompts of the captions in the index; None where `caption` has not run."""
        return self.sections().get("caption_family")

    @property
    def current_captions(self) -> list[str]:
        """See `curate.dataset.current.current_families`."""
        return current_families(self.layout)

    def current_records(self, cut: pa.Table, columns: Sequence[str] | None = None) -> pa.Table:
        """See `curate.dataset.current.current_records`."""
        return current_records(self.layout, cut, columns)

    def texts(self, cut: pa.Table) -> pa.Table:
        """The texts that count: `clip_id`, `level`, `variant`, `text`, by these.

        Args:
            cut: rows of tables/shards, or of the index: the clips as they are cut now.
        """
        found = usable(self.current_records(cut, ["text"])).select([*KEY, "text"])
        return found.sort_by([(name, "ascending") for name in KEY])

    def to_retry(self, records: pa.Table, cut: pa.Table) -> pa.Table:
        """Those of a captioner's records that it should attempt again, see `curate.dataset.judged.unsettled`.

        Args:
            records: rows of `CAPTIONS`, with `text` and `status`.
            cut: rows of tables/shards, or of the index: the clips as they are cut now.
        """
        human = self.captions(HUMAN).read(["text", "status", "prompt_id", "earlier", SOURCE])
        return unsettled(records, of_current(human, cut))

    @property
    def caption_note(self) -> str | None:
        """What a reader of the captions must know; None: nothing."""
        return self.sections().get("caption_note")

    def made_with(self, *, or_running: bool = False) -> dict[str, Any]:
        """What the last `curate` ran with; `or_running`: or the one that runs now, or was killed.

        Raises:
            NotADataset, Missing: there was none.
        """
        sections = self.sections()
        for name in ("running", "curate") if or_running else ("curate",):
            if name in sections:
                found: dict[str, Any] = sections[name]
                return found
        if not sections or self.is_run():
            raise self._no_dataset()
        raise Missing(
            f"{self.url}/config.yaml has no section `curate`: no run has come to its end; "
            f"`reelpack curate INPUT --out {self.url}` makes the dataset, or finishes it"
        )

    def families(self, *, or_running: bool = False) -> dict[str, dict[str, pa.DataType]]:
        """The score families in `made_with` and their columns, as stored; needs no weights."""
        return self.columns_of(self.made_with(or_running=or_running)["families"])

    def columns_of(self, families: Iterable[str]) -> dict[str, dict[str, pa.DataType]]:
        """The columns of score families, as stored; none of one that has no values."""
        found = {}
        for family in families:
            schema = self.scores(family, {}).stored_schema()
            found[family] = {field.name: field.type for field in schema if field.name != "clip_id"}
        return found

    def read_clips(self, columns: Sequence[str] | None = None) -> pa.Table:
        """`clips.parquet`: every clip with its decision; `columns`: those of these that it has.

        Raises:
            NotADataset, Missing: it is not there; names the command that makes it.
        """
        stored = None if columns is None else open_parquet(self.layout.clips)
        names = None if stored is None else [name for name in stored.schema.names if name in (columns or ())]
        return self._derived(self.layout.clips, names)

    def read_index(self) -> pa.Table:
        """`shards/index.parquet`: the kept clips that are cut; what an earlier reelpack did not write is null.

        Raises:
            NotADataset, Missing: it is not there; names the command that makes it.
        """
        table = self._derived(self.layout.index)
        if DIGEST not in table.column_names:
            table = table.append_column(DIGEST, pa.nulls(table.num_rows, pa.string()))
        for name in CAPTION_COLUMNS:
            if name not in table.column_names:
                table = table.append_column(name, pa.nulls(table.num_rows, pa.string()))
        return table

    def num_indexed(self) -> int:
        """Rows of the index.

        Raises:
            ValueError: it is not there; names the command that makes it.
        """
        stored = open_parquet(self.layout.index)
        if stored is None:
            raise self._missing(self.layout.index)
        return int(stored.count_rows())

    def is_decided(self) -> bool:
        """Whether both derived files are there."""
        return all(fs.exists(path) for fs, path in map(locate, (self.layout.clips, self.layout.index)))

    def _derived(self, url: str, columns: Sequence[str] | None = None) -> pa.Table:
        table = read_parquet(url, columns)
        if table is None:
            raise self._missing(url)
        return table

    def _missing(self, url: str) -> ValueError:
        if not self.sections() or self.is_run():
            return self._no_dataset()
        return Missing(f"{url} is not there; `reelpack curate INPUT --out {self.url}` makes it")

    def is_run(self) -> bool:
        """Whether the folder is a training's, which has a config.yaml, too: that of `train` beside a run.json, that of
        `train-autoencoder`, `train-captioner` and `train-clip` with a section of that name."""
        fs, path = locate(f"{self.url}/run.json")
        return bool(fs.exists(path)) or any(name.startswith("train_") for name in self.sections())

    def _no_dataset(self) -> NotADataset:
        if self.is_run():
            return NotADataset(f"{self.url} is no dataset: it holds a training run; give the run's dataset")
        fs, path = locate(self.url)
        lacks = "it has no config.yaml" if fs.exists(path) else "there is no such folder"
        return NotADataset(f"{self.url} is no dataset: {lacks}; `reelpack curate INPUT --out {self.url}` makes one")

    def failed(self, keys: Collection[str]) -> set[str]:
        """Subjects on which a step with one of these keys failed; some may have their result by now."""
        rows = self.failures.read([])
        return set(rows["subject"].filter(pc.is_in(rows["key"], pa.array(list(keys), pa.string()))).to_pylist())

    def sidecar(self) -> pa.Table | None:
        """The user's own columns by `uri`; None where none were given."""
        return read_parquet(self.layout.sidecar)

    def sidecar_names(self) -> list[str]:
        """Names of the user's own columns."""
        sidecar = self.sidecar()
        return [] if sidecar is None else [name for name in sidecar.column_names if name != "uri"]

    def write_index(self, cut_key: str, *, keep: bool = False) -> int:
        """Publish `shards/index.parquet`, see `index`; the number of its rows. `keep`: write what does not depend on
        decisions to the cache."""
        with self.commit():
            names = [*CLIP_COLUMNS, *self.sidecar_names()]
            cut = self._kept_cut(cut_key) if keep else self._cut(cut_key)
            kept = (_kept(part).select(names) for part in self.clip_tables([*names, "decision"]))
            first = next(kept)
            clips = in_order(chain([first], kept), first.schema, ["clip_id"])
            return write_tables(self.layout.index, self._index_tables(clips, cut))

    def clip_tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Some columns of `clips.parquet` in tables that fit into memory.

        Raises:
            ValueError: it is not there; names the command that makes it.
        """
        stored = open_parquet(self.layout.clips)
        if stored is None:
            raise self._missing(self.layout.clips)
        return tables_of(stored, columns)

    def cut(self, cut_key: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of tables/shards, or these columns of them: the clips as they are cut with these settings."""
        return _cut_with(self.shards.read(columns), cut_key)

    def index(self, clips: pa.Table, cut_key: str) -> pa.Table:
        """The rows of `shards/index.parquet`: the kept clips that are cut, with the captions of the current captioner
        and the user's own columns. Writes nothing.

        Args:
            clips: the rows of `clips.parquet`.
            cut_key: names the settings of the encoder.
        """
        return pa.concat_tables(self._index_tables([_kept(clips).sort_by("clip_id")], self._cut(cut_key)))

    def _index_tables(self, kept: Iterable[pa.Table], cut_rows: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """`index` in tables that fit into memory, of rows that come in order of id."""
        own, clips = self.sidecar_names(), Follower(kept)
        for cut in cut_rows:
            decided = clips.until(cut["clip_id"][-1].as_py() if cut.num_rows else "").select([*CLIP_COLUMNS, *own])
            index = left_join(cut, decided, "clip_id")
            index = index.filter(pc.is_valid(index["video_id"])).select([*INDEX.names, *own])
            yield index.cast(pa.schema([*INDEX, *(index.schema.field(name) for name in own)]))

    def _cut(self, cut_key: str) -> Iterator[pa.Table]:
        """What an index has of the clips that are cut, kept or not, in order of id."""
        records = CurrentRecords(self.layout, ["text"])
        for cut in self.shards.in_order():
            last = cut["clip_id"][-1].as_py() if cut.num_rows else None
            cut = _cut_with(cut, cut_key)
            captions = usable(records.of(cut, last))
            captions = captions.filter(pc.equal(captions["variant"], 0))
            cut = cut.drop_columns(["cut_key", "split"])
            for level in LEVELS:
                of_level = captions.filter(pc.equal(captions["level"], level)).select(["clip_id", "text"])
                cut = left_join(cut, of_level.rename_columns({"text": caption_column(level)}), "clip_id")
            yield cut

    def _kept_cut(self, cut_key: str) -> Iterator[pa.Table]:
        """`_cut`, from the cache where nothing has changed since."""
        tables = [self.shards, *(self.captions(family) for family in self.current_captions)]
        names = "\n".join(name for table in tables for name in (table.url, *table.part_names()))
        url, digest = self.layout.cache("cut"), digest_of([*code_of(curate.dataset), cut_key, names])
        if (found := open_found(url, digest)) is None:
            rows, held = self._cut(cut_key), list[pa.Table]()
            while sum(part.num_rows for part in held) < KEPT_FROM:
                if (part := next(rows, None)) is None:
                    return iter(held)
                held.append(part)
            write_tables(url, chain(held, rows), {FOUND_IN: digest.encode()})
            found = open_parquet(url)
            assert found is not None, "it was published"
        return tables_found(found)


def _kept(clips: pa.Table) -> pa.Table:
    return clips.filter(pc.equal(clips["decision"], "keep"))


def _cut_with(rows: pa.Table, cut_key: str) -> pa.Table:
    return rows.filter(pc.equal(rows["cut_key"], cut_key))
