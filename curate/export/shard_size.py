"""How much one file of several clips holds."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardSize:
    """At most so many clips, or so many bytes of clips, in a file that holds several. One clip is always allowed."""

    clips: int | None = None
    num_bytes: int | None = None

    @classmethod
    def parse(cls, text: str) -> "ShardSize":
        """`256`: clips; `512MiB`: bytes.

        Raises:
            ValueError: neither.
        """
        match = re.fullmatch(r"([1-9]\d{0,17}) ?(KiB|MiB|GiB|)", text)
        if match is None:
            raise ValueError(f"--shard-size {text}: expected a number of clips (256) or a size (512MiB)")
        factor = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}.get(match[2])
        return cls(num_bytes=int(match[1]) * factor) if factor else cls(clips=int(match[1]))

    def cuts(self, sizes: list[int]) -> list[tuple[int, int]]:
        """Ranges of consecutive clips of these sizes, in bytes."""
        starts, held = [0], 0
        for position, size in enumerate(sizes):
            is_full = position - starts[-1] == self.clips or (
                self.num_bytes is not None and held + size > self.num_bytes
            )
            if is_full and position > starts[-1]:
                starts.append(position)
                held = 0
            held += size
        return list(zip(starts, [*starts[1:], len(sizes)], strict=True)) if sizes else []
