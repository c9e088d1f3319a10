"""WebDataset tars: samples by key, as the `webdataset` library groups them. Payloads of media are not read."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from curate.media.members import member_version, open_tar
from curate.media.origin import remote_errors, version_of
from curate.media.recognize import IMAGE_ENDINGS, MEDIA_ENDINGS
from curate.media.tar_members import TarMember, tar_members
from curate.schema import Failure, FailureKind, MediaError
from curate.storage.access import public
from curate.storage.inside import member_uri
from curate.storage.place import locate
from pipelines.inputs.find import TEXTS
from pipelines.inputs.sample import MAX_TEXT_BYTES, Sample, read_texts
from pipelines.inputs.sources import Source, failure_of

META = re.compile(r"__[^/]*__($|/)")
"""Members that WebDataset passes over."""
MAX_NAMED = 4
"""Kinds of members that are named in a message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TarEnds:
    """The last sample of a tar: the first one of the next may be the rest of it."""

    uri: str
    key: str


def read_tar(
    url: str, leave_out: Callable[[str], object] = lambda _: None, before: TarEnds | None = None
) -> Iterator[Sample | Failure | TarEnds]:
    """The samples of a tar, a failure for each that cannot be read as one, and at last its end.

    Args:
        url: Of the tar, with its signature.
        leave_out: Called with members that are no part of a sample.
        before: The end of the tar before it.
    """
    contents = _Contents(url, leave_out)
    damage: MediaError | None = None
    try:
        contents.read()
    except MediaError as error:
        damage = error
    if contents.num_media or (contents.groups and damage):
        yield from contents.samples(before)
    elif damage is None:
        yield failure_of(contents.uri, FailureKind.NOT_MEDIA, contents.nothing())
    if damage is not None:
        yield failure_of(contents.uri, damage.kind, damage.detail)
    if contents.groups:
        yield TarEnds(uri=contents.uri, key=contents.groups[-1]["__key__"])


class _Contents:
    """What a tar holds, as far as it can be read: places of media, bytes of texts."""

    def __init__(self, url: str, leave_out: Callable[[str], object]) -> None:
        self.url, self.uri = url, public(url)
        self.groups: list[dict[str, Any]] = []
        self.num_media = 0
        self._version = ""
        self._leave_out = leave_out
        self._twice: dict[str, list[tuple[TarMember, TarMember]]] = defaultdict(list)

    def read(self) -> None:
        """
        Raises:
            MediaError: the tar cannot be read, or not to its end; `groups` is what came before.
        """
        from webdataset.tariterators import group_by_keys

        fs, path = locate(self.url)
        self._version = version_of(self.url, fs, path)
        damage: list[MediaError] = []
        with remote_errors(self.uri), open_tar(fs, path) as file:
            members = self._members(file, int(fs.size(path) or 0), damage)
            self.groups = list(group_by_keys(members, keys=lambda part: part))
        if damage:
            raise damage[0]

    def _members(self, file: IO[bytes], num_bytes: int, damage: list[MediaError]) -> Iterator[dict[str, Any]]:
        """What `group_by_keys` takes. A second member of a name is kept apart: it would end the reading."""
        from webdataset.tariterators import base_plus_ext

        seen: dict[tuple[str, str], TarMember] = {}
        try:
            for member in tar_members(file, num_bytes, self.uri):
                if (part := _part_of(member.name, base_plus_ext)) is None:
                    self._leave_out(f"{self.uri}/{member.name}")
                    continue
                if part in seen:
                    self._twice[part[0]].append((seen[part], member))
                    continue
                seen[part] = member
                data: TarMember | bytes = member
                self.num_media += part[1].rpartition(".")[2] in MEDIA_ENDINGS
                if part[1] in TEXTS and member.size <= MAX_TEXT_BYTES:
                    file.seek(member.offset)
                    data = file.read(member.size)
                yield {"fname": part, "data": data, "__url__": self.uri}
        except MediaError as error:
            damage.append(error)

    def samples(self, before: TarEnds | None) -> Iterator[Sample | Failure]:
        places: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for group in self.groups:
            places[group["__key__"]].append(group)
        for number, (key, groups) in enumerate(places.items()):
            if key in self._twice:
                yield self._named_twice(key)
            elif len(groups) > 1:
                parts = " and ".join(", ".join(_parts(group)) for group in groups)
                detail = f"its members are not next to each other in the tar ({parts}): they are no one sample"
                yield failure_of(member_uri(self.uri, key), FailureKind.DUPLICATE, detail)
            else:
                yield from self._sample(key, _parts(groups[0]), before if number == 0 else None)

    def _sample(self, key: str, parts: Mapping[str, Any], before: TarEnds | None) -> Iterator[Sample | Failure]:
        text, columns = None, dict[str, Any]()
        texts = {name: parts[name] for name in TEXTS if isinstance(parts.get(name), bytes)}
        try:
            text, columns = read_texts(texts.get("txt"), texts.get("json"))
        except ValueError as error:
            subject = member_uri(self.uri, f"{key}.{next(iter(texts))}")
            yield failure_of(subject, FailureKind.CORRUPT, f"the text of {key} cannot be read ({error})")
        media = media_parts(parts, columns.get("kind"))
        if not media:
            has = ", ".join(f".{name}" for name in parts)
            detail = f"the sample has no video and no image; it has {has}"
            if before is not None and before.key == key:
                detail += f"; the rest of it is in {before.uri}: write the members of a sample into one tar"
            yield failure_of(member_uri(self.uri, key), FailureKind.MISSING, detail)
        for member in media:
            try:
                yield Sample(source=self._source(member), text=text, columns=columns)
            except UnicodeEncodeError:
                readable = member.name.encode("utf-8", "backslashreplace").decode()
                detail = "its name is not UTF-8, so no table can hold it"
                yield failure_of(f"{self.uri}//{readable}", FailureKind.IO, detail)

    def _source(self, member: TarMember) -> Source:
        return Source(
            uri=member_uri(self.uri, member.name),
            size_bytes=member.size,
            version=member_version(self._version, member.offset, member.size),
            signed=None if self.url == self.uri else member_uri(self.url, member.name),
        )

    def _named_twice(self, key: str) -> Failure:
        one, other = self._twice[key][0]
        detail = (
            f"the tar has {one.name!r} at byte {one.offset} and {other.name!r} at byte {other.offset}, which are one "
            "part of one sample; neither is read: rename one"
        )
        return failure_of(member_uri(self.uri, one.name), FailureKind.DUPLICATE, detail)

    def nothing(self) -> str:
        """Why no sample of the tar is an input."""
        kinds = list(dict.fromkeys(f".{name}" for group in self.groups for name in _parts(group)))
        has = ", ".join(kinds[:MAX_NAMED]) or "none"
        return f"none of its {len(self.groups)} samples has a video or an image; their members end in {has}"


def media_parts(parts: Mapping[str, Any], kind: object) -> list[Any]:
    """The media among the members of a sample: its videos, or where it has none, or is an image, its images. A picture
    beside a video is its thumbnail."""
    media = {name: part for name, part in parts.items() if name.rpartition(".")[2] in MEDIA_ENDINGS}
    images = {name: part for name, part in media.items() if name.rpartition(".")[2] in IMAGE_ENDINGS}
    if images and (kind == "image" or len(images) == len(media)):
        return list(images.values())
    return [part for name, part in media.items() if name not in images]


def _part_of(name: str, base_plus_ext: Callable[[str], tuple[str | None, str | None]]) -> tuple[str, str] | None:
    """Key and ending, as WebDataset has them; None for what is no part of a sample, such as what macOS adds."""
    base = name.rpartition("/")[2]
    if base.startswith(".") or ("__" in name and ("__MACOSX" in name or META.match(name))):
        return None
    key, ending = base_plus_ext(name)
    if key is None or ending is None or ending.startswith("__"):  # as WebDataset's own entries of a sample
        return None
    return key, ending.lower()


def _parts(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if not name.startswith("__")}
