"""The dataset directory: where each table lies, and the two files that are derived from them.

`clips.parquet` and `shards/index.parquet` are pure functions of the tables and the configuration: they are rewritten
at will and come out byte for byte the same when nothing changed.
"""

import shlex
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from curate.dataset.captions import USABLE
from curate.dataset.schemas import CAPTIONS, CLIPS, FAILURES, IDENTITIES, INDEX, SHARD_PLANS, SHARDS, VIDEOS
from curate.dataset.sources import DIGEST, of_current
from curate.dataset.store import Table, write_parquet
from curate.storage.lease import Lease, hold
from curate.storage.place import locate
from curate.storage.publish import write_text
from pipelines.config import Config, overrides
from pipelines.execute.base import ExecuteConfig
from pipelines.inputs.sources import absolute

Writer = Literal["curate", "captions", "latents"]
"""Parts of a dataset with one writer each: curating, captioning and encoding may go on at the same time."""
OF_A_MACHINE = ("address", "staging")
COMMIT_WAIT_S = 600.0
"""For another command that is about to write `config.yaml` or the index: seconds, but on a slow store with a large
dataset."""


class Dataset:
    """One dataset directory, local or remote."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.videos = Table(f"{self.url}/tables/videos", VIDEOS, ["uri", "scan_key"])
        self.identities = Table(f"{self.url}/tables/identities", IDENTITIES, ["uri"])
        self.clips = Table(f"{self.url}/tables/clips", CLIPS, ["clip_id", "scan_key"])
        self.shards = Table(f"{self.url}/tables/shards", SHARDS, ["clip_id", "cut_key"])
        self.shard_plans = Table(f"{self.url}/tables/shard_plans", SHARD_PLANS, ["clip_id", "cut_key"])
        self.failures = Table(f"{self.url}/tables/failures", FAILURES, ["subject", "step", "key"])
        self.shards_url = f"{self.url}/shards"
        self._fs, self._path = locate(self.url)
        self._lease: Lease | None = None

    @contextmanager
    def writer(self, name: Writer) -> Iterator[None]:
        """Be the only process that writes this part of the dataset, for the length of the block.

        Raises:
            Occupied: another is; the message names it.
        """
        with hold(self.url, name) as lease:
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
        return Table(f"{self.url}/tables/scores/{family}", schema, ["clip_id"])

    def captions(self, family: str) -> Table:
        """Caption records of one captioner with one prompt set: `family` is `<name>-<hash>`."""
        return Table(f"{self.url}/tables/captions/{family}", CAPTIONS, ["clip_id", "kind"])

    def make(self) -> None:
        """Make the folder, before any work.

        Raises:
            ValueError: it cannot be made there.
        """
        try:
            self._fs.makedirs(self._path, exist_ok=True)
        except OSError as error:
            raise ValueError(f"--out {self.url}: cannot make this folder ({error}); choose another place") from error

    def compact(self, families: Mapping[str, Mapping[str, pa.DataType]]) -> None:
        """Merge the parts that long runs leave, many and small; what is read stays the same."""
        scores = (self.scores(family, columns) for family, columns in families.items())
        facts = (self.identities, self.videos, self.clips, self.shards, self.shard_plans, self.failures)
        for table in (*facts, *scores):
            table.compact()

    def save_section(self, name: str, value: Any) -> None:
        """Record in config.yaml what one step ran with (None: no longer); the other steps' sections stay."""
        with self.commit():
            sections = {**self.sections(), name: value}
            if value is None:
                del sections[name]
            write_text(f"{self.url}/config.yaml", yaml.safe_dump(sections, sort_keys=True))

    def sections(self) -> dict[str, Any]:
        fs, path = locate(f"{self.url}/config.yaml")
        return yaml.safe_load(fs.cat_file(path)) if fs.exists(path) else {}

    def made_with(self, *, or_running: bool = False) -> dict[str, Any]:
        """What the last `curate` ran with; `or_running`: or the one that runs now, or was killed.

        Raises:
            ValueError: there was none.
        """
        sections = self.sections()
        for name in ("running", "curate") if or_running else ("curate",):
            if name in sections:
                found: dict[str, Any] = sections[name]
                return found
        if not sections:
            raise ValueError(
                f"{self.url} is no dataset: it has no config.yaml; `reelpack curate INPUT --out {self.url}` makes one"
            )
        raise ValueError(
            f"{self.url}/config.yaml has no section `curate`: no run has come to its end; "
            f"`reelpack curate INPUT --out {self.url}` makes the dataset, or finishes it"
        )

    def config(self, *, or_running: bool = False) -> Config:
        """The configuration in `made_with`, but for `execute`: how stages are run here, and which folder copies are
        kept in, is not for data to say."""
        section = self.made_with(or_running=or_running)
        names = Config.model_fields.keys() - {"execute"}
        return Config.model_validate({name: section[name] for name in names if name in section})

    def curate_command(self) -> str:
        """What a user types, in any folder, to go on with the inputs and settings in `made_with`. Folders of copies,
        and addresses of clusters, are left to the user."""
        made_with = self.made_with(or_running=True)
        execute = made_with.get("execute", {}).items()
        shown = ExecuteConfig.model_validate({name: value for name, value in execute if name not in OF_A_MACHINE})
        inputs = made_with["inputs"]
        settings = _flags(self.config(or_running=True).model_copy(update={"execute": shown}))
        return shlex.join(["reelpack", "curate", *inputs, "--out", absolute(self.url), *settings])

    def command(self, step: Literal["caption", "encode"]) -> str:
        """What a user types to repeat a later step as it ran last, or with the defaults if it never did."""
        sections = self.sections()
        config = Config.model_validate({step: sections[step]} if step in sections else {})
        return shlex.join(["reelpack", step, self.url, *_flags(config)])

    def families(self, *, or_running: bool = False) -> dict[str, dict[str, pa.DataType]]:
        """The score families in `made_with` and their columns, as stored; needs no weights."""
        found = {}
        for family in self.made_with(or_running=or_running)["families"]:
            schema = self.scores(family, {}).stored_schema()
            found[family] = {field.name: field.type for field in schema if field.name != "clip_id"}
        return found

    def has(self, name: str) -> bool:
        """Whether a derived file is there."""
        fs, path = locate(f"{self.url}/{name}")
        return bool(fs.exists(path))

    def read(self, name: str) -> pa.Table:
        """A derived file, `clips.parquet` or `shards/index.parquet`; an index of an earlier reelpack has no `digest`,
        and gets nulls.

        Raises:
            ValueError: it is not there; names the command that makes it.
        """
        fs, path = locate(f"{self.url}/{name}")
        if not self.has(name):
            raise ValueError(f"{self.url}/{name} is not there; `reelpack curate INPUT --out {self.url}` makes it")
        table = pq.read_table(path, filesystem=fs)
        if "shard" in table.column_names and DIGEST not in table.column_names:
            table = table.append_column(DIGEST, pa.nulls(table.num_rows, pa.string()))
        return table

    def failed(self, keys: Collection[str]) -> set[str]:
        """Subjects on which a step with one of these keys failed; some may have their result by now."""
        return {row["subject"] for row in self.failures.rows() if row["key"] in keys}

    def sidecar(self) -> pa.Table | None:
        """The user's own columns by `uri`; None where none were given."""
        fs, path = locate(f"{self.url}/tables/sidecar.parquet")
        return pq.read_table(path, filesystem=fs) if fs.exists(path) else None

    def write_index(self, cut_key: str) -> pa.Table:
        """Publish `shards/index.parquet`; see `index`."""
        with self.commit():
            index = self.index(self.read("clips.parquet"), cut_key)
            write_parquet(f"{self.shards_url}/index.parquet", index)
        return index

    def cut(self, cut_key: str) -> pa.Table:
        """Rows of tables/shards: the clips as they are cut with these settings."""
        rows = self.shards.read()
        return rows.filter(pc.equal(rows["cut_key"], cut_key))

    def index(self, clips: pa.Table, cut_key: str) -> pa.Table:
        """The rows of `shards/index.parquet`: the kept clips that are cut, with the captions of the current captioner
        and the user's own columns. Writes nothing.

        Args:
            clips: the rows of `clips.parquet`.
            cut_key: names the settings of the encoder.
        """
        clips = clips.filter(pc.equal(clips["decision"], "keep"))
        cut = self.cut(cut_key).drop_columns(["cut_key", "split"])
        sidecar = self.sidecar()
        own = [name for name in sidecar.column_names if name != "uri"] if sidecar is not None else []
        columns = ["clip_id", "video_id", "kind", "split", "balance_weight", *own]
        index = join(cut, clips.select(columns), "clip_id")
        index = index.filter(pc.is_valid(index["video_id"]))
        family = self.sections().get("caption_family")
        captions = self.captions(family).read() if family else CAPTIONS.empty_table()
        captions = of_current(captions, cut)
        usable = captions.filter(pc.is_in(captions["status"], pa.array(sorted(USABLE))))
        for kind in ("short", "dense"):
            of_kind = usable.filter(pc.equal(usable["kind"], kind)).select(["clip_id", "text"])
            index = join(index, of_kind.rename_columns({"text": f"caption_{kind}"}), "clip_id")
        index = index.select([*INDEX.names, *own])
        return index.cast(pa.schema([*INDEX, *(index.schema.field(name) for name in own)]))


def _flags(config: Config) -> list[str]:
    return [word for override in overrides(config) for word in ("--set", override)]


def join(table: pa.Table, other: pa.Table, key: str) -> pa.Table:
    """Add the columns of `other` by a key that is unique there, null where it has none; the order of rows stays."""
    rows = pc.index_in(table[key], other[key].combine_chunks() if other.num_rows else pa.array([], pa.string()))
    for name in other.column_names:
        if name != key:
            table = table.append_column(name, other[name].take(rows))
    return table
