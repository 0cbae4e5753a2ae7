"""A trace while it is on: what the front end was asked for, written into a ring.

`Swapfile` calls `load` and `store` in place of those of the front end, and those again where it is
off.  So it costs nothing then.  The recorder decides all that can be decided later
(``laboratory/recorder.py``).

A load has its *place* in the event.  That is 0 where it was answered at once: the slot word says
from what.  A page on a tier has the number of the tier and one.  Pages read in
part are left out.

A store is written down once it is there; one that was refused, or that ends later, has 0 for its
word.  One that waits for room is written when it is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic_ns
from typing import Final, final

import xxhash

from fuseswap.errors import CorruptData, Deferred, InvalidArgument, StoreRefused
from fuseswap.frontswap.backend import Data
from fuseswap.frontswap.chain import Frontswap
from fuseswap.frontswap.trace_ring import (
    BEGIN,
    DISCARD,
    EVENT,
    EVENT_BYTES,
    KIND_SHIFT,
    LOAD,
    MAX_PAGES,
    NOTE,
    STORE,
    TICK,
    TIME_MASK,
    TIME_SHIFT,
    TraceRing,
)
from fuseswap.store.slot_table import CLUSTER_SHIFT
from fuseswap.units import FIRST_PAGE, PageNumber, page_range

_STORE: Final = STORE << KIND_SHIFT
_DISCARD: Final = DISCARD << KIND_SHIFT
_NOTE: Final = NOTE << KIND_SHIFT
CORRUPT_PLACE: Final = 0xFFFF

_pack: Final = EVENT.pack_into
_digest: Final = xxhash.xxh3_64_intdigest

Load = Callable[[PageNumber], "bytes | None"]
Store = Callable[..., None]


@final
class Tracer:
    """Writes down what passes through ``load`` and ``store``, those of ``frontswap`` or around."""

    def __init__(
        self,
        frontswap: Frontswap,
        ring: TraceRing,
        tier_of: Callable[[int], int],
        load: Load | None = None,
        store: Store | None = None,
    ) -> None:
        """``tier_of`` a slot word: 1 and the number of its tier, or 0.

        Raises `InvalidArgument` where pages have numbers that are too large for an event.
        """
        if frontswap.slots.page_count > MAX_PAGES:
            raise InvalidArgument("a trace has room for page numbers of 4 TiB, not for more")
        self.ring = ring
        self._tier_of = tier_of
        self._load = load or frontswap.load
        self._store = store or frontswap.store
        self._words, self._used = frontswap.slots.words, frontswap.slots.used
        self._events, self._salt = ring.events, ring.salt
        self._next = ring.head
        self._stop = ring.tail + ring.capacity  # it was full there, when last looked at
        self._mask = ring.capacity - 1
        self._last = FIRST_PAGE
        self._write_note(BEGIN)

    def load(self, page: PageNumber) -> bytes | None:
        """As that of the front end."""
        self._last = page
        try:
            data = self._load(page)
        except (Deferred, CorruptData) as exc:
            self._write_miss(page, is_corrupt=isinstance(exc, CorruptData))
            raise
        count = self._next
        if count != self._stop or self._has_room():
            word = 0 if data is None else self._words[page]
            at = (count & self._mask) * EVENT_BYTES
            _pack(self._events, at, monotonic_ns() >> TIME_SHIFT & TIME_MASK, page, 0, word)
            self._next = self.ring.head = count + 1
        return data

    def store(self, page: PageNumber, data: Data, replace: bool = False) -> None:
        """As that of the front end."""
        try:
            self._store(page, data, replace)
        except StoreRefused:
            self._write(page | _STORE, _digest(data, self._salt), 0)
            raise
        except Deferred as exc:
            if exc.taken:
                self._write(page | _STORE, _digest(data, self._salt), 0)
            raise
        count = self._next
        if count != self._stop or self._has_room():
            now = monotonic_ns() >> TIME_SHIFT & TIME_MASK
            at = (count & self._mask) * EVENT_BYTES
            digest = _digest(data, self._salt)
            _pack(self._events, at, now, page | _STORE, digest, self._words[page])
            self._next = self.ring.head = count + 1

    def note_rest(self, first: PageNumber, end: int) -> None:
        """A read from ``first`` to before ``end`` met a page that is elsewhere: those behind it."""
        if first <= self._last < end:
            first = PageNumber(self._last + 1)
        for page in page_range(first, end):
            self._write_miss(page)

    def note_discard(self, first: PageNumber, count: int) -> None:
        """``count`` pages from ``first`` are discarded from now on."""
        if count > 0:
            self._write(first | _DISCARD, count, 0)

    def tick(self) -> None:
        """Once a second: the recorder needs the whole time before its low bits turn over."""
        self._write_note(TICK)

    def _write_miss(self, page: PageNumber, *, is_corrupt: bool = False) -> None:
        word = self._words[page] if self._used[page >> CLUSTER_SHIFT] else 0
        place = CORRUPT_PLACE if is_corrupt else self._tier_of(word)
        self._write(page | LOAD << KIND_SHIFT, place, word)

    def _write_note(self, which: int) -> None:
        self._write(_NOTE, monotonic_ns(), which)

    def _write(self, page_and_kind: int, number: int, word: int) -> None:
        count = self._next
        if count != self._stop or self._has_room():
            now = monotonic_ns() >> TIME_SHIFT & TIME_MASK
            at = (count & self._mask) * EVENT_BYTES
            _pack(self._events, at, now, page_and_kind, number, word)
            self._next = self.ring.head = count + 1

    def _has_room(self) -> bool:
        """Whether the recorder has read on; else the event is counted as dropped."""
        self._stop = self.ring.tail + self.ring.capacity
        if self._next != self._stop:
            return True
        self.ring.dropped += 1
        return False
