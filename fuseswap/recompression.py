"""Recompression: a trio task that makes cold pages smaller while nobody needs the processor.

    a sealed segment, in memory, not looked at before, old enough (``candidates.py``)
        -> copies of its cold objects -> a thread compresses them (``cache/recompressor.py``)
        -> is it still the same? -> rewritten with what became smaller (``cache/cleaner.py``)
           nothing became smaller: the segment is marked, and left alone

Where stores wait for room that nothing else makes, any sealed segment is taken, at full speed
(`make_room`).  Else, of all tasks it comes last: ``pace.py``.  Which dictionary is used, and when
there should be another, ``training.py`` decides; which one goes, ``turnover.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import trio

from fuseswap.cache.cleaner import Cleaner
from fuseswap.cache.codecs import parse_recompressor
from fuseswap.cache.pool import CompressedCache
from fuseswap.cache.recompressor import Packed, Repacker, train
from fuseswap.cache.segment_kinds import Mark, Stream
from fuseswap.cache.slot_word import (
    as_stored,
    codec_of,
    is_corrupt,
    is_loaded,
    is_object_of,
    length_of,
    object_key,
)
from fuseswap.cache.state import SEGMENT_BYTES
from fuseswap.candidates import Candidates
from fuseswap.demand import Demand
from fuseswap.errors import InvalidArgument
from fuseswap.pace import Pace, Read, Submit, run_here
from fuseswap.training import LEAST_PAGES, Training
from fuseswap.turnover import Turnover
from fuseswap.units import SegmentRef
from fuseswap.waiting import called

DEFAULT_ALGORITHM = "zstd:6"

_LOOK_EVERY_S = 1.0
_WINDOW = 256  # segments looked at for one choice
_SAMPLED = 8  # objects of a segment, to see whether any gains
_WORTH_BYTES = SEGMENT_BYTES // 50
_MANY_LOADED = 0.5
# Trained is from so many pages of at most so many segments.
_TRAINING_PAGES = 1280
_TRAINING_SEGMENTS = 64


@dataclass(frozen=True, slots=True)
class _Work:
    """One segment: what it was when it was begun, its pages, and what became smaller, by key."""

    ref: SegmentRef
    owners: list[int]
    packed: dict[int, Packed] = field(default_factory=dict)

    @property
    def segment(self) -> int:
        """Its id."""
        return self.ref.id


class Recompression(Pace):
    """Recompresses the segments of ``cache`` in the thread of ``submit``.

    ``requests`` counts all that was asked of the device so far.  ``give_back`` returns what the
    training of a dictionary took of the heap.
    """

    def __init__(
        self,
        cache: CompressedCache,
        submit: Submit = run_here,
        requests: Callable[[], int] = lambda: 0,
        give_back: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(submit, requests)
        self._cache = cache
        self._log = cache.log
        self.cleaner = Cleaner(cache.slots, cache.log, cache.decoder)
        self.candidates = Candidates(cache)
        self.training = Training(cache)
        self.turnover = Turnover(cache, self.training, self._repack)
        self.demand = Demand()
        self._give_back = give_back
        self.may_train: Callable[[], bool] = lambda: True  # it takes 10 MiB
        self.algorithm = ""
        self.set_algorithm(DEFAULT_ALGORITHM)
        self._wanted = trio.Event()
        self._running = False
        self._tried = 0  # segments
        self._ended = trio.lowlevel.ParkingLot()
        self._pages_before = 0

    def set_algorithm(self, name: str) -> None:
        """``none`` (it stops at once) or ``zstd[:LEVEL]``; raises `InvalidArgument`."""
        self._level = parse_recompressor(name)
        if not self._level:
            self.demand.left.clear()
        self.algorithm = f"zstd:{self._level}" if self._level else "none"

    def ask(self, demand: Demand) -> None:
        """Recompress what ``demand`` describes, in the background; see its ``left``."""
        if not self._level:
            raise InvalidArgument("recomp_algorithm is none")
        if demand.incompressible:
            raise InvalidArgument(f"'{demand.text}' is neither all nor idle=SECONDS")
        while self._cache.adopt_some():
            pass
        if demand.takes_all:
            for head in self._log.heads:
                if head.stream not in (Stream.RECOMPRESSED, Stream.EVICTED):
                    self._log.seal(head)
        segments = self._log.eviction_queue.matching(demand.takes)
        demand.left = [s for s in segments if not self._log.table.is_recompressed(s)]
        demand.total = len(demand.left)
        self.demand = demand
        self._pages_before = self.tried_pages
        self.candidates.spare_none()
        self._wanted.set()

    @property
    def progress(self) -> str:
        """How far what was asked for is: segments, and pages that were tried for it."""
        tried = self.tried_pages - self._pages_before
        return f"{self.demand}, {tried} pages tried" if self.demand.total else str(self.demand)

    @property
    def age_seconds(self) -> int:
        """Segments sealed longer ago are recompressed; 0: age alone recompresses nothing."""
        return self.candidates.age_seconds

    @age_seconds.setter
    def age_seconds(self, seconds: int) -> None:
        self.candidates.age_seconds = seconds

    def warm_up(self, page: bytes) -> None:
        """Have what compresses made now, on ``page``: later there may be no memory for it."""
        if self._level:
            self.training.recompressor(self._level).warm_up(page)

    def is_due(self, segment: int) -> bool:
        """Whether ``segment`` is old enough, nobody has tried, and it is not switched off."""
        return self._level > 0 and self.candidates.is_due(segment)

    # -- for stores that wait --------------------------------------------------------

    @property
    def can_make_room(self) -> bool:
        """Whether a store that finds the pool full may wait for `make_room`.

        There has to be a frame to rewrite the first segment to, of those no store gets.
        """
        able = self._running and self._level and not self._cache.adopting
        if not able or self.is_resting or not self._log.frames.has_spare:
            return False
        return self.candidates.any_for_room()

    async def make_room(self) -> bool:
        """Have one segment tried at full speed, however young; False where none could be."""
        before = self._tried
        self.hurry()
        self._wanted.set()
        try:
            await self._ended.park()
        finally:
            self.relax()
        return self._tried > before

    def _is_same(self, work: _Work) -> bool:
        """Whether the segment is there, and the one it was."""
        return self.candidates.is_there(work.segment) and self._log.table.is_current(work.ref)

    # -- the task --------------------------------------------------------------------

    async def run(self) -> None:
        """Recompress what is due, asked for, or needed for room, for ever."""
        self._running = True
        try:
            while True:
                self._ended.unpark_all()
                with trio.move_on_after(_LOOK_EVERY_S):
                    await self._wanted.wait()
                self._wanted = trio.Event()
                if not self._cache.adopting:
                    self.training.drop_unused()
                    if self._level and not self.in_need:
                        await self.turnover.look(self._level)
                    await self._work_off()
        finally:
            self._running = False
            self._ended.unpark_all()

    async def _work_off(self) -> None:
        """Recompress until nothing is to be done, or nothing can be now."""
        while segment := self._next():
            await trio.lowlevel.checkpoint()  # of 1 GiB that is hot each takes 0.5 ms
            await self._train()
            if self.candidates.is_there(segment) and not await self._recompress(segment):
                return
            self._note_done(segment)
            self._tried += 1
            self._ended.unpark_all()  # whoever waited says whether that is enough

    def _next(self) -> int:
        """A segment that is needed, was asked for or is due; 0: none of those looked at."""
        if self.is_resting or not self._level:
            return 0
        if self.in_need and (segment := self.candidates.for_room()):
            return segment
        left = self.demand.left
        while left:
            if self.candidates.is_there(left[0]):
                return left[0]
            del left[0]
        return next(self.candidates.due(_WINDOW), 0)

    def _note_done(self, segment: int) -> None:
        if self.demand.left and self.demand.left[0] == segment:
            del self.demand.left[0]

    # -- one segment -----------------------------------------------------------------

    async def _recompress(self, segment: int) -> bool:
        """Rewrite or mark ``segment``; False where there is no room or memory to do so now."""
        log = self._log
        work = _Work(log.table.ref(segment), await self._owners(segment))
        if not self._is_same(work):
            return True
        asked = segment in self.demand.left
        asked = asked or (self.in_need and self.candidates.was_spared(segment))
        words = self._words(segment, work.owners, hot=asked)
        objects = log.table.live[segment] - log.table.extra[segment]
        if not asked and len(words) < objects * (1 - _MANY_LOADED):
            self._spare(work)
            return True
        if self.in_need:
            words = self._words(segment, work.owners, hot=True)
        # A few from all over the segment first, then the others.
        step = max(1, len(words) // _SAMPLED)
        gained = 0
        for number, part in enumerate(
            (words[::step], [w for i, w in enumerate(words) if i % step])
        ):
            gained += await self._compress(work, part)
            if not self._level or not self._is_same(work):
                return True
            if self.is_resting:
                self._put_off(segment)
                return False
            if number == 0 and not gained:
                break
        if gained < _WORTH_BYTES and gained * 4 < log.table.live_bytes[segment]:
            log.table.mark(segment, Mark.TRIED)  # crash point: recompress-mark
            return True
        return await self._rewrite(work)

    async def _owners(self, segment: int) -> list[int]:
        """All pages of ``segment``, also those that only share an object."""
        found: list[int] = []
        first = 0
        while first < self._cache.page_count:
            pages, first = self._cache.owners_of(segment, first)
            found += pages
            if first < self._cache.page_count:
                await trio.lowlevel.checkpoint()
        return found

    def _words(self, segment: int, owners: Iterable[int], *, hot: bool = False) -> list[int]:
        """Keys of the objects of ``segment``; unless ``hot``, not of those loaded since stored."""
        slots = self._cache.slots
        words: dict[int, bool] = {}
        for page in owners:
            word = slots.get(page) if page < slots.page_count else 0
            mine = is_object_of(word, segment)
            if mine and (hot or not is_loaded(word)) and not is_corrupt(word):
                words[object_key(word)] = True
        return list(words)

    def _spare(self, work: _Work) -> None:
        """Most of it is hot: look again later, at what will have been loaded until then."""
        slots = self._cache.slots
        for page in work.owners:
            word = slots.get(page)
            mine = is_object_of(word, work.segment)
            if mine and is_loaded(word):
                slots.words[page] = as_stored(word)
        self.candidates.spare(work.segment)

    def _put_off(self, segment: int) -> None:
        """It could not be tried: others come first when it goes on."""
        self.candidates.spare(segment)
        if segment in self.demand.left:
            self.demand.left.remove(segment)
            self.demand.left.append(segment)

    async def _compress(self, work: _Work, words: list[int]) -> int:
        """Pack what of ``words`` becomes smaller; bytes gained.  Stops where the segment goes."""
        gained = 0
        tried = await self._pack(
            words,
            self._log.stored,
            lambda: self.training.recompressor(self._level).shrink,
            lambda: self._level > 0 and self._is_same(work),
        )
        for word, one in tried:
            if one is not None:
                work.packed[word] = one
                gained += length_of(word) - len(one.payload)
        self.training.pages += len(tried)
        return gained

    async def _rewrite(self, work: _Work) -> bool:
        """Copy what lives, smaller where it can be; False where there is no room for it.

        What is kept back from stores is not for this: a step opens two segments at most.
        """
        cleaner = self.cleaner
        cleaner.rewrite(work.segment, work.packed)
        while cleaner.busy:
            if self._log.frames.available < 2:
                return self._rewrite_at_once(work)
            if not cleaner.step():
                cleaner.give_up()
                break
            await trio.lowlevel.checkpoint()
            if not self._is_same(work):
                cleaner.give_up()
        return not self._is_same(work)

    def _rewrite_at_once(self, work: _Work) -> bool:
        """The pool is tight: all at once, to one stream, without a turn for others, up to 5 ms.

        What the open segment does not take goes to a frame, which may be the last: the one
        that comes back.
        """
        log, cleaner = self._log, self.cleaner
        head = log.heads[Stream.RECOMPRESSED]
        if head.bound - head.tail < self._bytes_needed(work) and not log.frames.has_spare:
            cleaner.give_up()
            return False
        cleaner.rewrite(work.segment, work.packed, spare=False)
        while cleaner.busy and cleaner.step():
            pass
        done = not cleaner.busy
        cleaner.give_up()
        return done

    def _bytes_needed(self, work: _Work) -> int:
        """What the objects of a segment will take; what has died meanwhile gains nothing."""
        needed = self._log.table.live_bytes[work.segment]
        for word in self._words(work.segment, work.owners, hot=True):
            if word in work.packed:
                needed -= length_of(word) - len(work.packed[word].payload)
        return needed

    # -- dictionaries ----------------------------------------------------------------

    async def _train(self) -> None:
        """Train a dictionary from what is to be recompressed, where it is time to."""
        training = self.training
        if not training.is_due or not self.may_train():
            return
        segments = self.demand.left or await self._all_due()
        pages = sum(
            self._log.table.live[segment]
            for segment in segments
            if self.candidates.is_there(segment)
        )
        if pages < LEAST_PAGES:
            return
        training.begin()
        objects = await self._sample(segments)
        await self._turn()
        if not self._level:
            return
        job = partial(train, training.recompressor(self._level), objects)
        found = await called(partial(self._submit, job))
        del objects, job
        training.judge(found, pages)
        self._give_back()  # the thread is idle
        if training.waiting:
            await self.turnover.make_place(self._level)

    async def _all_due(self) -> list[int]:
        """All segments that are due: 2 us each, so with turns for others."""
        found: list[int] = []
        for first in range(0, len(self._log.table.live), _WINDOW):
            found += self.candidates.due(min(_WINDOW, len(self._log.table.live) - first))
            await trio.lowlevel.checkpoint()
        return found

    async def _repack(
        self, words: list[int], read: Read, repacker: Repacker, same: Callable[[], bool]
    ) -> list[tuple[int, Packed | None]] | None:
        """As `_pack`, for ``turnover.py``; None where it is switched off, rests, or is needed."""

        def able() -> bool:
            return self._level > 0 and not (self.in_need or self.is_resting)

        tried = await self._pack(words, read, lambda: repacker.shrink, lambda: able() and same())
        return tried if able() else None

    async def _sample(self, segments: list[int]) -> list[tuple[int, bytes]]:
        """Objects from all over ``segments``: the codec, and check and payload of each."""
        chosen = segments[:: -(-len(segments) // _TRAINING_SEGMENTS)]
        each = -(-_TRAINING_PAGES // len(chosen))
        found: list[tuple[int, bytes]] = []
        for segment in chosen:
            await trio.lowlevel.checkpoint()
            if self.candidates.is_there(segment):
                words = self._words(segment, self._log.owners(segment))
                words = words[:: -(-len(words) // each) or 1]
                found += [(codec_of(word), self._log.stored(word)) for word in words]
        return found
