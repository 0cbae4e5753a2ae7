"""The swapfile: byte ranges become page numbers.

One file of fixed size.  Whole pages pass straight through to frontswap.
A partial page is loaded, changed and stored with ``replace``.  So its old bytes
are in reach until the new ones are (a resend after a crash needs them).
Holes read as zeros.  Knows neither FUSE nor how pages are kept.

Called from the transport, in one thread; nothing here waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from fuseswap.errors import BeyondEnd, Deferred, InvalidArgument, StoreRefused
from fuseswap.filesystem.punch import Punch
from fuseswap.frontswap.chain import Frontswap
from fuseswap.frontswap.exclusive_loads import ExclusiveLoads
from fuseswap.frontswap.trace_ring import TraceRing
from fuseswap.frontswap.tracer import Tracer
from fuseswap.store.page_reader import ZERO_PAGE
from fuseswap.units import PAGE_SHIFT, PAGE_SIZE, PageNumber, page_range

_IN_PAGE: Final = PAGE_SIZE - 1


def _in_memory(word: int) -> int:
    return 0


@final
class Swapfile:
    """``size_bytes`` (a multiple of 4096) of swap, page by page in ``frontswap``."""

    def __init__(
        self, size_bytes: int, frontswap: Frontswap, tier_of: Callable[[int], int] = _in_memory
    ) -> None:
        """``tier_of`` a slot word: 1 and the number of the tier that has its page, or 0."""
        if size_bytes <= 0 or size_bytes & _IN_PAGE:
            raise InvalidArgument(f"a swapfile of {size_bytes} bytes is not a multiple of 4096")
        self.size_bytes = size_bytes
        self._frontswap = frontswap
        self._tier_of = tier_of
        self._slots = frontswap.slots
        self._load = frontswap.load
        self._store = frontswap.store
        self._read_page = self._load
        self._exclusive: ExclusiveLoads | None = None
        self._tracer: Tracer | None = None

    @property
    def exclusive_loads(self) -> bool:
        """Whether a whole page that is read, without waiting for it, goes then."""
        return self._exclusive is not None and self._exclusive.is_on

    @exclusive_loads.setter
    def exclusive_loads(self, switch: bool) -> None:
        self._exclusive = ExclusiveLoads(self._frontswap) if switch else None
        self._link_up(self._tracer.ring if self._tracer else None)

    @property
    def is_traced(self) -> bool:
        """Whether loads and stores are written into a ring."""
        return self._tracer is not None

    def trace(self, ring: TraceRing | None) -> None:
        """Write all that is loaded, stored and discarded into ``ring``; None: no more.

        Raises `InvalidArgument`; see `Tracer`.
        """
        self._link_up(ring)

    def _link_up(self, ring: TraceRing | None) -> None:
        """A page goes through what is on: the tracer, then exclusive loads, then the front end."""
        exclusive = self._exclusive
        load = exclusive.load if exclusive else self._frontswap.load
        store = exclusive.store if exclusive else self._frontswap.store
        tracer = Tracer(self._frontswap, ring, self._tier_of, load, store) if ring else None
        self._tracer = tracer
        self._read_page = tracer.load if tracer else load
        self._store = tracer.store if tracer else store

    def settle(self) -> None:
        """Once a second: pages that were read go."""
        if self._exclusive is not None:
            self._exclusive.settle()
        if self._tracer is not None:
            self._tracer.tick()

    def load(self, page: PageNumber) -> bytes:
        """4096 bytes of ``page``, which stays; raises as `read`."""
        return self._load(page) or ZERO_PAGE

    def read(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes from ``offset``; fewer at the end of the file.

        Raises `CorruptData` if any page of the range is corrupt.
        """
        if size == PAGE_SIZE and not offset & _IN_PAGE and offset < self.size_bytes:
            return self._read_page(offset >> PAGE_SHIFT) or ZERO_PAGE
        end = min(offset + size, self.size_bytes)
        if offset >= end:
            return b""
        first = offset >> PAGE_SHIFT
        whole_from, whole_to = offset + _IN_PAGE >> PAGE_SHIFT, end >> PAGE_SHIFT
        try:
            pieces = [
                (self._read_page if whole_from <= page < whole_to else self._load)(page)
                or ZERO_PAGE
                for page in page_range(first, (end - 1 >> PAGE_SHIFT) + 1)
            ]
        except Deferred:
            if self._tracer is not None:
                self._tracer.note_rest(PageNumber(whole_from), whole_to)
            raise
        if end & _IN_PAGE:
            pieces[-1] = pieces[-1][: end & _IN_PAGE]
        if offset & _IN_PAGE:
            pieces[0] = pieces[0][offset & _IN_PAGE :]
        return b"".join(pieces)

    def fitting(self, offset: int, size: int) -> int:
        """How many of ``size`` bytes at ``offset`` are before the end; `BeyondEnd`: none."""
        room = self.size_bytes - offset
        if room <= 0 < size:
            raise BeyondEnd(f"{offset} is beyond the {self.size_bytes} bytes there are")
        return min(size, room)

    def write(self, offset: int, data: memoryview) -> int:
        """Store ``data`` at ``offset``, as far as the file goes; returns how many bytes that is.

        Raises `BeyondEnd` where it is none, or `CorruptData` for a partial write to a
        corrupt page.  Or `StoreRefused`: pages before the refused one are stored, that one
        and those after it are holes.
        """
        size = len(data)
        if offset + size > self.size_bytes:
            size = self.fitting(offset, size)
            data = data[:size]
        if size == PAGE_SIZE and not offset & _IN_PAGE:
            self._store(offset >> PAGE_SHIFT, data)
            return size
        done = 0
        while done < size:
            page, start = offset + done >> PAGE_SHIFT, offset + done & _IN_PAGE
            count = min(PAGE_SIZE - start, size - done)
            piece = data[done : done + count]
            try:
                if count == PAGE_SIZE:
                    self._store(page, piece)
                else:
                    self._change(page, start, piece)
            except Deferred as exc:
                exc.done = done
                raise
            except StoreRefused:
                self.forget(offset + done + count, offset + size)
                raise
            done += count
        return size

    def punch(self, offset: int, size: int) -> None:
        """Make a range read as zeros, cut at the end of the file, in one go."""
        punch = self.begin_punch(offset, size)
        while punch.step():
            pass

    def begin_punch(self, offset: int, size: int) -> Punch:
        """The same, of which no step was taken."""
        end = min(offset + size, self.size_bytes)
        if self._tracer is not None:
            first = offset + _IN_PAGE >> PAGE_SHIFT
            self._tracer.note_discard(first, (end >> PAGE_SHIFT) - first)
        return Punch(min(offset, end), end, self._zero, self._frontswap.invalidation)

    def _zero(self, page: PageNumber, start: int, count: int) -> None:
        self._change(page, start, memoryview(ZERO_PAGE)[:count])

    def seek_data(self, offset: int) -> int | None:
        """First offset at or after ``offset`` that is stored, None where none is."""
        if offset >= self.size_bytes:
            return None
        page = self._slots.next_stored(offset >> PAGE_SHIFT)
        return None if page is None else max(offset, page << PAGE_SHIFT)

    def seek_hole(self, offset: int) -> int | None:
        """First offset at or after ``offset`` in a hole; the end counts as one."""
        if offset >= self.size_bytes:
            return None
        page = self._slots.next_hole(offset >> PAGE_SHIFT)
        return max(offset, page << PAGE_SHIFT)

    def forget(self, offset: int, end: int) -> None:
        """A write was refused half-way: the whole pages of its rest hold nothing stale."""
        first, last = offset + _IN_PAGE >> PAGE_SHIFT, end >> PAGE_SHIFT
        if first < last:
            self._frontswap.invalidate_area(first, last - first)

    def _change(self, page: PageNumber, start: int, piece: memoryview) -> None:
        """Replace the bytes from ``start`` in ``page``; one of zeros is a hole then."""
        old = self._load(page)
        if old is None and not any(piece):
            return
        changed = bytearray(old or ZERO_PAGE)
        changed[start : start + len(piece)] = piece
        if changed == ZERO_PAGE:
            self._frontswap.invalidate_page(page)
            return
        self._store(page, memoryview(changed), replace=True)
