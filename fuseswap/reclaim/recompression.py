"""Recompression: a trio task that makes cold pages smaller while the processor is free.

    a sealed segment, in memory, not tried before (``recompression_policy.py``: which one?)
        -> its objects are made smaller, or it is marked (``segment_recompressor.py``)
           in a thread that comes last of all tasks (``background_thread.py``)
    now and then a dictionary is trained (``dictionary_training.py``), and an old one goes
        (``dictionary_retirement.py``); ``dictionary_policy.py``: what with?

Where stores wait for room that nothing else makes, any sealed segment is taken, at full speed
(`make_room`).
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from fuseswap.codecs.zstd import parse_recompressor
from fuseswap.errors import InvalidArgument
from fuseswap.reclaim.background_thread import BackgroundThread
from fuseswap.reclaim.dictionary_mover import DictionaryMover, ReadBack
from fuseswap.reclaim.dictionary_policy import DEFAULT_SCHEDULE, DictionaryPolicy, TrainingSchedule
from fuseswap.reclaim.dictionary_retirement import DictionaryRetirement
from fuseswap.reclaim.dictionary_training import DictionaryTraining, TrainingMemory
from fuseswap.reclaim.policy import RECOMPRESS, Choice
from fuseswap.reclaim.recompression_policy import RecompressionPolicy
from fuseswap.reclaim.request import ReclaimRequest
from fuseswap.reclaim.segment_recompressor import SegmentRecompressor
from fuseswap.store.copier import Copier, CopierStatistics
from fuseswap.store.segment_entry import Stream
from fuseswap.store.store import Store
from fuseswap.units import NO_SEGMENT, SegmentId

DEFAULT_ALGORITHM = "zstd:12"

_LOOK_EVERY_S = 1.0


class Recompression:
    """Recompresses the segments of ``cache`` in ``thread``.

    ``read_back``: how pages come back from the tier, where there is one.  ``may_train``: whether
    the machine has memory to train a dictionary.  ``memory``: where that comes from.
    ``schedule``: when one is trained.  ``choice``: which segment comes first.
    """

    def __init__(
        self,
        cache: Store,
        thread: BackgroundThread,
        read_back: ReadBack | None = None,
        may_train: Callable[[], bool] = lambda: True,
        memory: TrainingMemory | None = None,
        schedule: TrainingSchedule = DEFAULT_SCHEDULE,
        choice: Choice | None = None,
    ) -> None:
        self._cache = cache
        self._log = log = cache.log
        self.thread = thread
        self.policy = RecompressionPolicy(cache, choice or Choice(RECOMPRESS))
        level = parse_recompressor(DEFAULT_ALGORITHM)
        self.dictionaries = DictionaryPolicy(
            cache.dictionaries, log.dictionary_use.pages, level, schedule
        )
        self.copier = Copier(cache.slots, log)
        self._segments = SegmentRecompressor(
            cache, thread, self.policy, self.dictionaries, self.copier
        )
        self._training = DictionaryTraining(
            cache, thread, self.policy, self.dictionaries, may_train, memory
        )
        self.mover = DictionaryMover(cache, thread, self.dictionaries, read_back)
        self.retirement = DictionaryRetirement(cache, self.dictionaries, self.mover)
        self._wanted = trio.Event()
        self._running = False
        self._tried = 0  # segments
        self._ended = trio.lowlevel.ParkingLot()
        self._pages_before = 0

    @property
    def algorithm(self) -> str:
        """``none`` or ``zstd:LEVEL``."""
        return f"zstd:{self.dictionaries.level}" if self.dictionaries.is_on else "none"

    def set_algorithm(self, name: str) -> None:
        """``none`` (it stops at once) or ``zstd[:LEVEL]``; raises `InvalidArgument`."""
        self.dictionaries.level = parse_recompressor(name)
        if not self.dictionaries.is_on:
            self.policy.drop_request()

    @property
    def request(self) -> ReclaimRequest:
        """The segments that were asked for last."""
        return self.policy.request

    def ask(self, request: ReclaimRequest) -> None:
        """Recompress the segments ``request`` describes, in the background; see its ``left``."""
        if not self.dictionaries.is_on:
            raise InvalidArgument("recomp_algorithm is none")
        if request.incompressible:
            raise InvalidArgument(f"'{request.text}' is neither all nor idle=SECONDS")
        if request.takes_all:
            for head in self._log.heads:
                if head.stream not in (Stream.RECOMPRESSED, Stream.EVICTED):
                    self._log.seal(head)
        self.policy.ask(request)
        self._pages_before = self.thread.tried_pages
        self._wanted.set()

    @property
    def progress(self) -> str:
        """How far the request is: segments, and pages that were tried for it."""
        tried = self.thread.tried_pages - self._pages_before
        return f"{self.request}, {tried} pages tried" if self.request.total else str(self.request)

    def warm_up(self, page: bytes) -> None:
        """Have the contexts of zstd made now, on ``page``: later there may be no memory for it."""
        if self.dictionaries.is_on:
            for urgent in (False, True):
                self.dictionaries.recompressor(urgent=urgent).warm_up(page)

    def is_due(self, segment: SegmentId) -> bool:
        """Whether ``segment`` is old enough, was not tried, and this is not switched off."""
        return self.dictionaries.is_on and self.policy.is_due(segment)

    def cleaned(self) -> CopierStatistics:
        """Copies made for recompression, and for dictionaries that go."""
        return self.copier.statistics() + self.mover.copied()

    # -- for stores that wait --------------------------------------------------------

    @property
    def can_make_room(self) -> bool:
        """Whether a store that finds the pool full may wait for `make_room`.

        There has to be a frame to rewrite the first segment to, of those no store gets.
        """
        able = self._running and self.dictionaries.is_on and not self._cache.adopting
        if not able or self.thread.is_resting or not self._log.frames.has_spare:
            return False
        return self.policy.any_for_room()

    async def make_room(self) -> bool:
        """Have one segment tried at full speed, however young; False where none could be."""
        before = self._tried
        self.thread.hurry()
        self._wanted.set()
        try:
            await self._ended.park()
        finally:
            self.thread.relax()
        return self._tried > before

    # -- the task --------------------------------------------------------------------

    async def run(self) -> None:
        """Recompress segments that are due, asked for, or needed for room; does not end."""
        self._running = True
        try:
            while True:
                self._ended.unpark_all()
                with trio.move_on_after(_LOOK_EVERY_S):
                    await self._wanted.wait()
                self._wanted = trio.Event()
                if not self._cache.adopting:
                    await self.policy.search()
                    await self.mover.count_again()
                    self.dictionaries.drop_unused()
                    if self.dictionaries.is_on and not self.thread.urgent:
                        await self.retirement.look()
                    await self._work_off()
        finally:
            self._running = False
            self._ended.unpark_all()

    async def _work_off(self) -> None:
        """Recompress until nothing is to be done, or nothing can be now."""
        while segment := self._next():
            await trio.lowlevel.checkpoint()  # of 1 GiB that is hot each takes 0.5 ms
            await self._train()
            if self.policy.is_there(segment) and not await self._segments.recompress(segment):
                return
            self.policy.note_done(segment)
            self._tried += 1
            self._ended.unpark_all()  # who waited says whether that is enough

    def _next(self) -> SegmentId:
        """The segment to be recompressed now; 0: none can be, or none of those looked at is due."""
        if self.thread.is_resting or not self.dictionaries.is_on:
            return NO_SEGMENT
        return self.policy.next(urgent=self.thread.urgent)

    async def _train(self) -> None:
        """Train a dictionary where it is time to; one that has no place may get one."""
        if self.thread.urgent:  # stores wait: a segment first
            return
        trained = self._training.is_due and await self._training.train()
        if trained and self.dictionaries.waiting:
            await self.retirement.make_place()
