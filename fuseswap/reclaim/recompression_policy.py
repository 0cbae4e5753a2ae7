"""The policy of recompression: which segment is next.

    for room    any that is sealed, while stores wait: hot ones last, then open segments that
                are as good as full
    asked for   those of a request, in its order
    due         sealed `age_seconds` ago; 1 s ago where the pool is nearly full, or as large as
                the machine bears

A segment is spared a while where most of it was loaded, or where it could not be tried.
All of it is derived, and only looked at; ``segment_recompressor.py`` does the work.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import trio

from fuseswap.linux.clocks import boot_s
from fuseswap.reclaim.policy import Choice, candidates_of
from fuseswap.reclaim.request import ReclaimRequest
from fuseswap.store.append_head import AppendHead
from fuseswap.store.segment_entry import Stream
from fuseswap.store.segment_places import FRESH
from fuseswap.store.store import Store
from fuseswap.units import NO_SEGMENT, SegmentId

DEFAULT_AGE_S = 60

_SCARCE_PERCENT = 10
_SCARCE_AGE_S = 1
_FEW = 64
_WINDOW = 256  # segments looked at for one choice
_MOST_WALKED = 1024  # for room: 1 ms
_SLICE = 1024
_FRESH = (Stream.STORE, Stream.INCOMPRESSIBLE, Stream.SURVIVORS)


class RecompressionPolicy:
    """Of one ``cache``.  Walks round the segments, going on where it stopped.

    ``choice``: which of those that are due comes first.
    """

    def __init__(self, cache: Store, choice: Choice) -> None:
        self._cache = cache
        self._log = cache.log
        self.choice = choice
        self.age_seconds = DEFAULT_AGE_S  # 0: age alone recompresses nothing
        self.request = ReclaimRequest()
        self._hand = NO_SEGMENT
        # Sequence, and until when; of twice as many segments as there are frames, and `_FEW`.
        self._spared: dict[SegmentId, tuple[int, float]] = {}
        self._found = NO_SEGMENT  # by the last look for room
        self._nothing_in: tuple[int, ...] = ()  # what the log was when nothing was left

    # -- a request -------------------------------------------------------------------

    def ask(self, request: ReclaimRequest) -> None:
        """Have the sealed segments that ``request`` describes taken, spared or not."""
        table, now = self._log.table, not self._cache.adopting
        if request.begin_search(table, self._log.frames.in_use, now=now):
            self._end_search(request)
        self.request.search = None  # it refers to its request
        self.request = request
        self._spared.clear()

    def drop_request(self) -> None:
        """Nothing of it is left to do."""
        self.request.end_search()
        self.request.left.clear()

    def _end_search(self, request: ReclaimRequest) -> None:
        table = self._log.table
        request.left = [s for s in request.end_search() if not table.is_recompressed(s)]
        request.total = len(request.left)

    async def search(self) -> None:
        """Go on with the search of a request, of which the first step was not all."""
        request = self.request
        while request.search is not None and self.request is request:
            if not request.search.step():
                self._end_search(request)
            await trio.lowlevel.checkpoint()

    def is_wanted(self, segment: SegmentId, *, urgent: bool) -> bool:
        """Whether ``segment`` is to be recompressed even where most of it is hot."""
        return segment in self.request.left or (urgent and self.was_spared(segment))

    def put_off(self, segment: SegmentId) -> None:
        """Let others come first: ``segment`` could not be tried."""
        self.spare(segment)
        left = self.request.left
        if segment in left:
            left.remove(segment)
            left.append(segment)

    def note_done(self, segment: SegmentId) -> None:
        """Strike ``segment`` off the request, where it was the next one."""
        left = self.request.left
        if left and left[0] == segment:
            del left[0]

    # -- one segment -----------------------------------------------------------------

    def is_there(self, segment: SegmentId) -> bool:
        """Whether ``segment`` is sealed, in memory, and not recompressed or tried yet."""
        log = self._log
        movable = (
            log.table.live[segment] > 0
            and log.table.bases[segment] >= 0
            and log.table.is_movable(segment)
        )
        return movable and not log.table.is_recompressed(segment)

    def is_due(self, segment: SegmentId) -> bool:
        """Whether ``segment`` is old enough to be recompressed, and neither tried nor spared."""
        if not self.age_seconds or not self.is_there(segment):
            return False
        table = self._log.table
        age_s = boot_s() - table.sealed_at(segment)
        if age_s < (
            min(_SCARCE_AGE_S, self.age_seconds) if self._is_scarce() else self.age_seconds
        ):
            return False
        spared, until = self._spared.get(segment, (0, 0.0))
        return spared != table.sequence_of(segment) or trio.current_time() >= until

    def _is_scarce(self) -> bool:
        """Whether the pool is nearly full: its pages had better be small."""
        frames = self._log.frames
        return frames.is_spent or frames.available * 100 < frames.limit * _SCARCE_PERCENT

    def spare(self, segment: SegmentId) -> None:
        """Look at ``segment`` again later."""
        until = trio.current_time() + max(1, self.age_seconds)
        self._spared[segment] = (self._log.table.sequence_of(segment), until)
        if len(self._spared) > 2 * self._log.frames.in_use + _FEW:
            self._spared = {s: self._spared[s] for s in self._spared if self.was_spared(s)}

    def was_spared(self, segment: SegmentId) -> bool:
        """Whether `spare` was called for it, however long ago; it is in memory since."""
        same = self._spared.get(segment, (0, 0.0))[0] == self._log.table.sequence_of(segment)
        return same and self._log.table.bases[segment] >= 0

    # -- the next one ----------------------------------------------------------------

    def next(self, *, urgent: bool) -> SegmentId:
        """The segment that is needed, was asked for or is due; 0: none of those looked at."""
        if urgent and (segment := self.for_room()):
            return segment
        left = self.request.left
        while left:
            if self.is_there(left[0]):
                return left[0]
            del left[0]
        if self.choice.is_default:
            return next(self.due(_WINDOW), NO_SEGMENT)
        candidates = candidates_of(self._cache, self.due(_WINDOW))
        return self.choice.choose(candidates) if candidates else NO_SEGMENT

    async def all_due(self) -> list[SegmentId]:
        """All segments that are due: 2 us each, so with turns for others."""
        found: list[SegmentId] = []
        table = self._log.table
        for first in range(1, len(table.live), _SLICE):
            segments = table.places.walk((FRESH,), first, first + _SLICE)
            found += [segment for segment in segments if self.is_due(segment)]
            await trio.lowlevel.checkpoint()
        return found

    def due(self, window: int) -> Iterator[SegmentId]:
        """Those of the next ``window`` segments that are due."""
        return (segment for segment in self._walk(window) if self.is_due(segment))

    def any_for_room(self) -> bool:
        """Whether stores have something to wait for.

        Looks at `_MOST_WALKED` segments, at most once between two that are filled.
        """
        if self.is_there(self._found):
            return True
        now = self._what_is_open()
        if self._nothing_in == now:
            return False
        segments = islice(self._log.table.places.walk((FRESH,)), _MOST_WALKED)
        self._found = next((s for s in segments if self.is_there(s)), NO_SEGMENT)
        if self._found or self._full_heads():
            return True
        self._nothing_in = now
        return False

    def for_room(self) -> SegmentId:
        """One to be recompressed while stores wait; 0: none of those looked at can be."""
        spared = NO_SEGMENT
        for segment in self._walk(_MOST_WALKED):
            if self.is_there(segment):
                if not self.was_spared(segment):
                    return segment
                spared = spared or segment
        if spared:
            return spared
        full = self._full_heads()
        for head in full:
            self._log.seal(head)
        return self.for_room() if full else NO_SEGMENT

    def _walk(self, window: int) -> Iterator[SegmentId]:
        """The next ``window`` segments in memory of which more may be had."""
        for segment in islice(self._log.table.places.round_from((FRESH,), self._hand), window):
            self._hand = segment
            yield segment

    def _full_heads(self) -> list[AppendHead]:
        """Open segments with no room to speak of that could be recompressed."""
        return [head for head in self._log.heads if head.stream in _FRESH and head.is_nearly_full]

    def _what_is_open(self) -> tuple[int, ...]:
        """It changes with every segment that is sealed."""
        return (self._log.table.newest_sequence, *(head.segment for head in self._log.heads))
