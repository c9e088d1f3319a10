"""Stage: clips → caption records, through a caption backend. Clips are decoded while the model works."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from caption.backends.base import CaptionBackend
from caption.clip import STEP, Answer, Captioning, ClipCaptioner
from caption.config import CaptionConfig
from caption.frames import windows_of
from caption.item import Ask, Captioned, CaptionItem, DecodedItem
from caption.quality.base import Check
from caption.record import media_digest
from curate.daemon_threads import DaemonPool
from curate.schema import Failure, FailureKind, MediaError
from curate.shards.tar import TarReader
from curate.threads import import_decoders

NUM_DECODERS = 4
"""Threads that decode for one model."""
MAX_HELD_BYTES = 512 << 20
"""Bytes of frames that are decoded and not yet captioned. Decoding pauses above it; one clip alone can exceed it."""
MAX_IN_FLIGHT_BYTES = 1 << 30
"""The same for a model that answers many requests at a time: each of them holds its clip's frames."""

Outcome = Captioned | Failure


class CaptionStage:
    """The captions of clips, of all levels that the prompts ask for.

    A backend that takes batches gets the requests of all clips of a batch, round by round. For one that answers many
    requests at the same time, each clip has a thread of its own, and each request another.

    Args:
        config: model, prompts, frames and checks.
        shards_root: folder of the shards, a local path or an fsspec URL.
    """

    step = STEP

    def __init__(self, config: CaptionConfig, shards_root: str) -> None:
        assert config.backend is not None, "no stage without a model"
        self.config = config
        self._reader = TarReader(shards_root)
        self._backend: CaptionBackend = config.backend.build()
        self._fallback: CaptionBackend | None = config.fallback.build() if config.fallback else None
        self._checks = config.checks.build()
        self._clips = ClipCaptioner(config, self._backend, self._fallback, self._all_checks)
        self._threads: _Threads | None = None

    def setup(self) -> None:
        """Load the models, the reader of frames, and what the checks need.

        Raises:
            MissingWeights: embedded weights are not there.
            ValueError: a model cannot be loaded.
        """
        import_decoders()
        self.config.reader.setup()
        for backend in self._backends():
            backend.setup()
        for check in self._all_checks():
            check.setup()

    @property
    def batch_size(self) -> int:
        """Items for one call of `process`."""
        return max(self.config.batch_size, self._backend.num_in_flight)

    @property
    def num_in_flight(self) -> int:
        """Clips that are asked about at the same time, each in a thread of its own; 0: they are asked in batches."""
        return self._backend.num_in_flight

    def prefetch(self, items: Sequence[CaptionItem]) -> None:
        """Start on items of a later call of `process`."""
        self._pool().start(items)

    def process(self, items: Sequence[CaptionItem]) -> list[Outcome]:
        """The captions of each clip, or why it has none."""
        if self._backend.num_in_flight:
            self._pool().start(items)
            return [self._pool().take(item) for item in items]
        outcomes: list[Outcome] = []
        while len(outcomes) < len(items):
            outcomes += self._caption(items[len(outcomes) :])
        return outcomes

    def give_up(self, item: CaptionItem, kind: FailureKind, detail: str, attempts: int) -> Failure:
        return Failure(subject=item.clip_id, step=STEP, kind=kind, detail=detail, attempts=attempts)

    def _backends(self) -> Iterator[CaptionBackend]:
        yield self._backend
        if self._fallback is not None:
            yield self._fallback

    def _all_checks(self) -> Iterable[Check]:
        yield from self._checks
        for backend in self._backends():
            yield from backend.checks

    def _pool(self) -> "_Threads":
        if self._threads is None:
            in_flight = self._backend.num_in_flight
            work = self._caption_alone if in_flight else self._decode_ahead
            max_bytes = MAX_IN_FLIGHT_BYTES if in_flight else MAX_HELD_BYTES
            self._threads = _Threads(work, NUM_DECODERS + in_flight, max_bytes)
            self._decoders = threading.BoundedSemaphore(NUM_DECODERS)
            self._requests = DaemonPool(in_flight, "requests")
        return self._threads

    def _decode_ahead(self, item: CaptionItem) -> DecodedItem | Failure:
        clip = self._decode(item)
        self._pool().hold(_num_bytes(clip))
        return clip

    def _decode(self, item: CaptionItem) -> DecodedItem | Failure:
        try:
            data = self._reader.read(item.shard, item.offset, item.size, key=item.clip_id, digest=item.digest)
        except (OSError, ValueError) as error:  # the shard is missing or cut off
            return Failure(subject=item.clip_id, step=STEP, kind=FailureKind.IO, detail=str(error))
        frames, reader = self.config.frames, self.config.reader
        try:
            return DecodedItem(
                item=item,
                digest=media_digest(data),
                windows=windows_of(data, frames, reader=reader),
                decode_again=lambda attempt: windows_of(data, frames, attempt=attempt, reader=reader),
            )
        except MediaError as error:
            return error.failure(item.clip_id, STEP)

    def _batch(self, items: Sequence[CaptionItem]) -> Iterator["_Decoded"]:
        """The first of the items, decoded: as many as the bound on held frames allows."""
        held = 0
        for item in items:
            start = time.monotonic()
            clip = self._pool().take(item)
            yield _Decoded(clip=clip, waited_s=time.monotonic() - start)
            held += _num_bytes(clip)
            if held >= MAX_HELD_BYTES:
                break

    def _caption(self, items: Sequence[CaptionItem]) -> list[Outcome]:
        """The outcomes of a batch, the first of the items: its frames are checked as they come, then the requests of
        all its clips are asked together, round by round."""
        outcomes: dict[int, Outcome] = {}
        open_: dict[int, tuple[Captioning, tuple[Ask, ...]]] = {}
        batch: list[_Decoded] = []
        start = time.monotonic()
        try:
            for row, decoded in enumerate(self._batch(items)):
                batch.append(decoded)
                if isinstance(decoded.clip, Failure):
                    outcomes[row] = decoded.clip
                else:
                    self._advance(row, self._clips.captions(decoded.clip), None, open_, outcomes)
            while open_:
                asked = list(open_.items())
                open_.clear()
                answers = iter(self._answers([ask for _, (_, asks) in asked for ask in asks]))
                for row, (captioning, asks) in asked:
                    self._advance(row, captioning, list(islice(answers, len(asks))), open_, outcomes)
        finally:
            self._pool().release(sum(_num_bytes(decoded.clip) for decoded in batch))
        spent_s = time.monotonic() - start - sum(decoded.waited_s for decoded in batch)
        return [_timed(outcomes[row], decoded.waited_s, spent_s / len(batch)) for row, decoded in enumerate(batch)]

    @staticmethod
    def _advance(
        row: int,
        captioning: Captioning,
        answers: Sequence[Answer] | None,
        open_: dict[int, tuple[Captioning, tuple[Ask, ...]]],
        outcomes: dict[int, Outcome],
    ) -> None:
        """Send a clip its answers (None: it has not asked yet); it asks for more, or is done."""
        try:
            open_[row] = captioning, next(captioning) if answers is None else captioning.send(answers)
        except StopIteration as done:
            outcomes[row] = done.value

    def _answers(self, asked: Sequence[Ask]) -> list[Answer]:
        answers: dict[int, Answer] = {}
        for backend, is_fallback in ((self._backend, False), (self._fallback, True)):
            rows = [row for row, ask in enumerate(asked) if ask.is_for_fallback == is_fallback]
            if rows and backend is not None:
                answers |= zip(rows, backend.caption([asked[row].request for row in rows]), strict=True)
        return [answers[row] for row in range(len(asked))]

    def _caption_alone(self, item: CaptionItem) -> Outcome:
        """One clip, in a thread of its own."""
        start = time.monotonic()
        with self._decoders:
            clip = self._decode(item)
        if isinstance(clip, Failure):
            return clip
        self._pool().hold(clip.num_bytes)
        try:
            return self._asked_alone(clip, time.monotonic() - start)
        finally:
            self._pool().release(clip.num_bytes)

    def _asked_alone(self, clip: DecodedItem, waited_s: float) -> Outcome:
        captioning, asked_s = self._clips.captions(clip), 0.0
        answers: list[Answer] | None = None
        while True:
            try:
                asks = next(captioning) if answers is None else captioning.send(answers)
            except StopIteration as done:
                outcome: Captioned = done.value
                return _timed(outcome, waited_s, asked_s)
            timed = list(self._requests.map(self._timed_answer, asks))
            answers = [answer for answer, _ in timed]
            asked_s += sum(seconds for _, seconds in timed)

    def _timed_answer(self, ask: Ask) -> tuple[Answer, float]:
        start = time.monotonic()
        (answer,) = self._answers([ask])
        return answer, time.monotonic() - start

    def __getstate__(self) -> dict[str, Any]:
        return {"config": self.config, "_root": self._reader.root}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["config"], state["_root"])  # type: ignore[misc]


@dataclass(frozen=True, kw_only=True)
class _Decoded:
    """A clip's frames, or why there are none, and how long they were waited for."""

    clip: DecodedItem | Failure
    waited_s: float


class _Threads:
    """Work on items in threads. Items begin in the order in which they are started, and none while the frames that
    are held reach `max_bytes`: the earliest item that somebody waits for is never behind a later one.

    Args:
        work: item → result.
        num_threads: that work at the same time.
        max_bytes: of frames.
    """

    def __init__(self, work: Callable[[CaptionItem], Any], num_threads: int, max_bytes: int) -> None:
        self._work, self._max_bytes = work, max_bytes
        self._pool = DaemonPool(num_threads, "captions")
        self._started: dict[int, tuple[CaptionItem, Future[Any]]] = {}  # holds the items: ids are not used twice
        self._num_started = self._num_begun = self._held = 0
        self._changed = threading.Condition()

    def start(self, items: Iterable[CaptionItem]) -> None:
        """Start the items that are not started yet."""
        for item in items:
            if id(item) not in self._started:
                self._started[id(item)] = item, self._pool.submit(self._run, item, self._num_started)
                self._num_started += 1

    def take(self, item: CaptionItem) -> Any:
        """The result of an item; one that is not started is worked on in this thread."""
        started = self._started.pop(id(item), None)
        return self._work(item) if started is None else started[1].result()

    def hold(self, num_bytes: int) -> None:
        """So many bytes of frames are held."""
        self.release(-num_bytes)

    def release(self, num_bytes: int) -> None:
        """So many bytes of frames are no longer held."""
        with self._changed:
            self._held -= num_bytes
            self._changed.notify_all()

    def _run(self, item: CaptionItem, turn: int) -> Any:
        with self._changed:
            self._changed.wait_for(lambda: self._num_begun == turn and self._held < self._max_bytes)
            self._num_begun += 1
            self._changed.notify_all()
        return self._work(item)


def _num_bytes(result: Any) -> int:
    return result.num_bytes if isinstance(result, DecodedItem) else 0


def _timed(outcome: Outcome, waited_s: float, asked_s: float) -> Outcome:
    if isinstance(outcome, Failure):
        return outcome
    return replace(outcome, waited_s=waited_s, asked_s=asked_s)
