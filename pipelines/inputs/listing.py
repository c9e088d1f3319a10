"""Everything that the inputs name: files, members of tars and tables, rows of lists, with what is said of them."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from curate.media.origin import reaching
from curate.media.staging import DEFAULT, StagingConfig
from curate.schema import Failure, FailureKind, MediaError
from curate.storage.place import locate, url_of
from pipelines.inputs.find import Container, Media, find
from pipelines.inputs.lists import read_list, read_metadata
from pipelines.inputs.own_columns import OwnColumns
from pipelines.inputs.sample import MAX_TEXT_BYTES, About, Sample, read_texts
from pipelines.inputs.sidecar_file import SidecarConfig
from pipelines.inputs.sources import Source, absolute, failure_of, kind_of_error
from pipelines.inputs.tables import read_saved, read_table
from pipelines.inputs.tars import TarEnds, read_tar

NUM_READERS = 16
"""Texts beside files that are read at the same time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """The inputs.

    Attributes:
        sources: Each once, sorted by URI.
        failures: Of inputs, rows and members that are none.
        own: The columns that came with them, by `uri`; None where there are none.
        num_texts: Inputs that came with a text.
        containers: URIs of the tars, tables and lists.
        notes: What is worth telling.
    """

    sources: list[Source]
    failures: list[Failure]
    own: pa.Table | None
    num_texts: int
    containers: tuple[str, ...]
    notes: tuple[str, ...]


def list_sources(
    inputs: Sequence[str], exclude: str | None = None, leave_out: Callable[[str], object] = lambda _: None
) -> tuple[list[Source], list[Failure]]:
    """The sources and failures of `list_inputs`."""
    listing = list_inputs(inputs, exclude, leave_out)
    return listing.sources, listing.failures


def list_inputs(
    inputs: Sequence[str],
    exclude: str | None = None,
    leave_out: Callable[[str], object] = lambda _: None,
    *,
    lists: Sequence[str] = (),
    sidecar: SidecarConfig | None = None,
    staging: StagingConfig = DEFAULT,
) -> Listing:
    """List what the inputs name; see `pipelines.inputs.find` and docs/inputs.md.

    Args:
        inputs: files, folders, globs, lists; local paths or fsspec URLs.
        exclude: a folder that is skipped although it can be inside an input: the dataset that is written.
        leave_out: called with each file that cannot be media.
        lists: files that are lists of inputs, under any name; of an ending that is no table's a path per line.
        sidecar: how lists are read.
        staging: where tables are copied to that can only be read from a local disk.
    """
    gathered = _Gathered(exclude, leave_out, sidecar or SidecarConfig(), staging)
    for text in inputs:
        gathered.add(find(text, leave_out))
    gathered.add(Container(kind="list", url=absolute(url)) for url in lists)
    return gathered.listing()


class _Gathered:
    def __init__(
        self,
        exclude: str | None,
        leave_out: Callable[[str], object],
        sidecar: SidecarConfig,
        staging: StagingConfig,
    ) -> None:
        self._excluded = f"{url_of(*locate(exclude))}/" if exclude else "\0"
        self._leave_out, self._sidecar, self._staging = leave_out, sidecar, staging
        self._sources: dict[str, Source] = {}
        self._failures: list[Failure] = []
        self._own = OwnColumns()
        self._about: list[About] = []
        self._containers: dict[str, None] = {}
        self._last_tar: TarEnds | None = None

    def add(self, found: Iterator[Media | Container | Failure]) -> None:
        with_texts: list[Media] = []
        for entry in found:
            if isinstance(entry, Failure):
                if not entry.subject.startswith(self._excluded):
                    self._failures.append(entry)
            elif isinstance(entry, Container):
                if not entry.url.startswith(self._excluded) and entry.uri not in self._containers:
                    self._containers[entry.uri] = None
                    self._read(entry)
            elif not entry.source.uri.startswith(self._excluded):
                self._sources[entry.source.uri] = entry.source
                if entry.beside:
                    with_texts.append(entry)
        with ThreadPoolExecutor(NUM_READERS) as pool:
            for media, read in zip(with_texts, pool.map(_texts_beside, with_texts), strict=True):
                if isinstance(read, Failure):
                    self._failures.append(read)
                elif read is not None:
                    self._own.add(media.source.uri, *read)

    def _read(self, container: Container) -> None:
        for entry in self._entries(container):
            if isinstance(entry, Failure):
                is_other = entry.kind is FailureKind.NOT_MEDIA and entry.subject == container.uri
                if is_other and not container.is_named:
                    self._leave_out(entry.subject)
                else:
                    self._failures.append(entry)
            elif isinstance(entry, TarEnds):
                self._last_tar = entry
            elif isinstance(entry, About):
                self._about.append(entry)
            else:
                self._sources[entry.source.uri] = entry.source
                self._own.add(entry.source.uri, entry.text, entry.columns)

    def _entries(self, container: Container) -> Iterator[Sample | Failure | About | TarEnds]:
        if container.kind == "tar":
            return read_tar(container.url, self._leave_out, self._last_tar)
        if container.kind == "table":
            return read_table(container.url)
        if container.kind == "dataset":
            return read_saved(container.url, self._staging)
        if container.kind == "list":
            return read_list(container.url, self._sidecar)
        return read_metadata(container.url, self._sidecar)

    def listing(self) -> Listing:
        for about in self._about:
            uri = url_of(*locate(about.url))
            if uri in self._sources:
                self._own.add(uri, about.text, about.columns)
            else:
                self._failures.append(
                    failure_of(about.where, FailureKind.MISSING, f"{uri}: no such file among the inputs")
                )
        return Listing(
            sources=[self._sources[uri] for uri in sorted(self._sources)],
            failures=self._failures,
            own=self._own.table(),
            num_texts=self._own.num_texts,
            containers=tuple(self._containers),
            notes=tuple(self._own.notes()),
        )


def _texts_beside(media: Media) -> tuple[str | None, dict[str, object]] | Failure | None:
    """What the .txt and .json beside a file say of it. A .json without a text is not of the file's user."""
    texts: dict[str, bytes] = {}
    for url in media.beside:
        fs, path = locate(url)
        try:
            with reaching(url):
                if fs.size(path) <= MAX_TEXT_BYTES:
                    texts[url.rpartition(".")[2]] = fs.cat_file(path)
        except OSError as error:
            return failure_of(url, kind_of_error(error), str(error))
        except MediaError as error:
            return failure_of(url, error.kind, error.detail)
    if b"\0" in texts.get("txt", b""):
        return None  # no text, but another file of that name
    try:
        text, columns = read_texts(texts.get("txt"), texts.get("json"))
    except ValueError as error:
        return failure_of(
            media.beside[0], FailureKind.CORRUPT, f"the text of {media.source.uri} cannot be read ({error})"
        )
    return (text, columns) if text is not None else None
