"""Which clips a job works on when several jobs do the same step of one dataset: each claims one portion after another.

Clips are in shares by a digest of their id, the same in every job. A portion is as many shares as hold half of what is
not claimed, divided by the number of jobs (guided self-scheduling, as in `pipelines.execute.ray_data`): a job that
comes later finds something to do, and all end at about the same time. What a killed job had claimed is free when its
lease has ended.
"""

import math
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence

from curate.storage.claims import Claims
from curate.storage.owner import Owner

NUM_SHARES = 4096
POLL_S = 5.0
"""Between two looks at what other jobs still work on."""


class Shares:
    """The portions that this job gets.

    Args:
        claims: of this job.
        work: names what is done with the clips; jobs that do something else share nothing with this one.
        clip_ids: what this job has to do.
        least: clips that are worth a portion.
        open_of: of so many clips, those that no other job has done since.
    """

    def __init__(
        self,
        claims: Claims,
        work: str,
        clip_ids: Collection[str],
        *,
        least: int,
        open_of: Callable[[Collection[str]], Collection[str]],
    ) -> None:
        self._claims, self._work, self._least, self._open_of = claims, work, least, open_of
        self._left: dict[str, list[str]] = defaultdict(list)
        for clip_id in clip_ids:
            self._left[f"{work}/{zlib.crc32(clip_id.encode()) % NUM_SHARES}"].append(clip_id)

    @property
    def num_left(self) -> int:
        """Clips that this job has not got, and may get."""
        return sum(map(len, self._left.values()))

    def portions(self) -> Iterator[set[str]]:
        """Clips for this job alone, until it asks for more; it has published their results then. Waits while other
        jobs work on all that is left: what they leave undone comes last.

        Raises:
            LeaseLost: the lease of this process has ended.
        """
        try:
            while self._left:
                if shares := self._claims.take(self._choose):
                    clip_ids = [clip_id for share in shares for clip_id in self._left.pop(share)]
                    if portion := set(self._open_of(clip_ids)):
                        yield portion
                else:
                    time.sleep(POLL_S)
                    self._drop_done()
        finally:
            self._claims.give_back()

    def _choose(self, others: Sequence[Owner]) -> list[str]:
        claimed = {name for other in others for name in other.claims}
        num_jobs = 1 + sum(any(name.startswith(f"{self._work}/") for name in other.claims) for other in others)
        free = [share for share in self._left if share not in claimed]
        most = max(self._least, math.ceil(sum(len(self._left[share]) for share in free) / (2 * num_jobs)))
        chosen, num_clips = [], 0
        for share in free:
            if num_clips >= most:
                break
            chosen.append(share)
            num_clips += len(self._left[share])
        return chosen

    def _drop_done(self) -> None:
        still_open = set(self._open_of([clip_id for clip_ids in self._left.values() for clip_id in clip_ids]))
        kept = {share: [one for one in clip_ids if one in still_open] for share, clip_ids in self._left.items()}
        self._left = {share: clip_ids for share, clip_ids in kept.items() if clip_ids}
