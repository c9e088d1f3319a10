"""Names and paths in a dataset directory: the only place that spells them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from curate.split import Split

SPLITS: tuple[Split, ...] = get_args(Split)

Encoded = Literal["latents", "text"]
"""Folders of what `reelpack encode` writes, one below for each fingerprint."""
ENCODED: tuple[Encoded, ...] = get_args(Encoded)

CLIPS_FILE = "clips.parquet"
INDEX_FILE = "shards/index.parquet"


@dataclass(frozen=True)
class EncodedLayout:
    """Paths of one fingerprint of latents or text embeddings; `url` is its folder."""

    url: str

    @property
    def fingerprint(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def record(self) -> str:
        """JSON: the fingerprint, and what it was made from."""
        return f"{self.url}/fingerprint.json"

    @property
    def index(self) -> str:
        return f"{self.url}/index.parquet"

    @property
    def codebook(self) -> str:
        """Vectors of the codes, where latents are stored by their numbers."""
        return f"{self.url}/codebook.safetensors"

    @property
    def parts(self) -> str:
        """The table that `index` is written from."""
        return f"{self.url}/parts"


@dataclass(frozen=True)
class Layout:
    """Paths of one dataset directory; `url` is a local path or an fsspec URL, without a slash at its end.

    Raises:
        ValueError: the path is empty, or a root: paths below it would mean other places.
    """

    url: str

    def __post_init__(self) -> None:
        url = self.url.rstrip("/")
        if not url or (url != self.url and url.endswith(":")):
            raise ValueError(
                f"got {self.url!r} as the folder of a dataset; expected a path or URL of a folder, not "
                f"{'a root' if self.url else 'an empty one (a shell variable that is not set gives one)'}"
            )
        object.__setattr__(self, "url", url)

    @property
    def config(self) -> str:
        """YAML: what each step ran with."""
        return f"{self.url}/config.yaml"

    @property
    def clips(self) -> str:
        """Every clip with its decision."""
        return f"{self.url}/{CLIPS_FILE}"

    @property
    def shards(self) -> str:
        """Folder of the tars of clips."""
        return f"{self.url}/shards"

    @property
    def index(self) -> str:
        """The kept clips, and the location of each in a shard."""
        return f"{self.url}/{INDEX_FILE}"

    @property
    def report(self) -> str:
        return f"{self.url}/report/index.html"

    @property
    def tables(self) -> str:
        return f"{self.url}/tables"

    def table(self, name: str) -> str:
        """Folder of the parts of a table."""
        return f"{self.tables}/{name}"

    @property
    def sidecar(self) -> str:
        """The user's own columns."""
        return f"{self.tables}/sidecar.parquet"

    def scores(self, family: str = "") -> str:
        """Folder of a score family, `<name>-<hash>`, or of all of them."""
        return _below(self.table("scores"), family)

    def captions(self, family: str = "") -> str:
        """Folder of the records of one captioner and prompt, `<name>-<hash>`, or of all of them."""
        return _below(self.table("captions"), family)

    def encoded_root(self, kind: Encoded) -> str:
        """Folder of all fingerprints of latents or text embeddings."""
        return f"{self.url}/{kind}"

    def encoded(self, kind: Encoded, fingerprint: str) -> EncodedLayout:
        return EncodedLayout(f"{self.encoded_root(kind)}/{fingerprint}")

    @property
    def pieces(self) -> str:
        """Folder of the pieces of shards that are not yet written."""
        return f"{self.caches}/pieces"

    @property
    def caches(self) -> str:
        """Folder of what can be removed at any time."""
        return f"{self.url}/cache"

    def cache(self, name: str) -> str:
        """A table that can be removed at any time."""
        return f"{self.caches}/{name}.parquet"


def _below(folder: str, name: str) -> str:
    return f"{folder}/{name}" if name else folder


def shard_name(split: str, number: int) -> str:
    return f"{split}-{number:06d}.tar"


def shard_split(name: str) -> str:
    return name.partition("-")[0]


def is_folder_of_clips(folder: str) -> bool:
    """Whether shards in this folder hold the clips themselves, not what was made from them."""
    return folder.rpartition("/")[2] == "shards"


def is_shard(name: str) -> bool:
    """Whether a file in a folder of shards is one of them."""
    return re.fullmatch(r"[^/.]+\.tar", name) is not None


def next_numbers(names: Iterable[str]) -> dict[str, int]:
    """Split → the first number above those of all named shards; numbers are not used again."""
    numbers: dict[str, int] = dict.fromkeys(SPLITS, 0)
    for name in names:
        split, number = name.removesuffix(".tar").rsplit("-", 1)
        numbers[split] = max(numbers.get(split, 0), int(number) + 1)
    return numbers
