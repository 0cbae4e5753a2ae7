"""The in-place layout: a page on the backing file lies raw at its own offset, as with zswap.

The second backend of the frontswap chain.  Every page has its place, so what the cache
refuses (a page that compresses badly, a full pool nobody can empty) is taken here, and
eviction needs no free extent, no directory and no cleaner on the file.  Its price is
4096 bytes written a page, and one write for each run of neighbours.

    evict        the cold objects of a segment are decompressed and written, runs of
                 neighbours together; acknowledged, each slot word becomes ``IN_PLACE``
                 with the checksum of the page, and the last one frees the segment
    store        refused by the cache: the page is written; acknowledged, its word is set
    writethrough stored in the cache, and a copy written: evicting it later costs no write

One write of a page is in flight at most (`_busy`), since two could reach the device in
either order.  A write never commits what is not the page's any more: an eviction looks at
the word again, a store at its token, which any later store or discard takes away.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import trio
import xxhash

from fuseswap.cache.pool import CompressedCache
from fuseswap.cache.slots import (
    IN_PLACE,
    KIND_MASK,
    PARITY,
    REFERENCED,
    SAME_FILLED,
    SEGMENT_ID_SHIFT,
)
from fuseswap.errors import CorruptData, MustGoOut, OnTier, StoreRefused
from fuseswap.units import PAGE_SIZE

RUN_PAGES = 16
_RUNS_AT_ONCE = 64  # of one segment: a slow device is asked for many at once
_PAGES_A_TURN = 32  # decompressed before others get a turn, about 150 us
PLACE = -1  # as the extent of an `OnTier`: the page's own place

_digest = xxhash.xxh3_64_intdigest


class PlaceFile(Protocol):
    """Bytes by offset; ``done`` is called later, never from in here."""

    def begin_read(self, at: int, length: int, done: Callable[[bytes | OSError], None]) -> None:
        """Read ``length`` bytes at ``at``."""

    def begin_put(self, at: int, data: bytes, done: Callable[[OSError | None], None]) -> None:
        """Write whole pages at ``at``; the bytes are copied."""


@dataclass(slots=True)
class Evicted:
    """What became of one segment."""

    pages: int = 0
    written_bytes: int = 0
    spared: int = 0
    skipped: int = 0
    error: OSError | None = None


@dataclass(slots=True)
class _Run:
    """Neighbours on their way: ``(page, word, digest)`` each, and their bytes."""

    pages: list[tuple[int, int, int]] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)


class InPlace:
    """Pages of ``cache`` at their own offsets in ``file``."""

    name = "backing"

    def __init__(self, cache: CompressedCache, file: PlaceFile) -> None:
        self._cache = cache
        self._file = file
        self._slots = cache.slots
        self._busy: dict[int, list[Callable[[], None]]] = {}
        self._stores: dict[int, object] = {}
        self._known: array[int] | None = None
        self._landed = trio.Event()
        self.direct_stores = 0

    @property
    def page_count(self) -> int:
        """Pages that are in their places, and nowhere else."""
        return self._cache.in_place_pages

    # -- a frontswap backend ----------------------------------------------------------

    def store(self, page: int, data: bytes | memoryview, replace: bool = False) -> None:
        """Never at once: raises `MustGoOut`, for `begin_store`.

        Or `StoreRefused` for a partial write: its old bytes would be gone before the new are safe.
        """
        self._stores.pop(page, None)
        if replace:
            raise StoreRefused(f"a partial write of page {page} finds no room in memory")
        raise MustGoOut(page, bytes(data))

    def load(self, page: int) -> bytes | None:
        """None where the page is not here; else raises `OnTier`, for a read."""
        word = self._slots.get(page)
        if word & KIND_MASK != IN_PLACE or word.bit_count() & 1:
            return None
        raise OnTier(page, word, 0, PLACE, page * PAGE_SIZE, PAGE_SIZE)

    def invalidate_page(self, page: int) -> bool:
        """A write in flight does not count any more.  The word is the cache's to clear."""
        self._stores.pop(page, None)
        return False

    def invalidate_area(self, first: int, count: int) -> int:
        """The same for a run."""
        for page in [page for page in self._stores if first <= page < first + count]:
            del self._stores[page]
        return 0

    # -- stores ------------------------------------------------------------------------

    def begin_store(self, page: int, data: bytes, done: Callable[[Exception | None], None]) -> None:
        """Write a page the cache refused; ``done`` gets None once it is stored, or the error."""
        token = self._stores[page] = object()
        digest = _digest(data)

        def landed(error: Exception | None) -> None:
            if self._stores.get(page) is token:
                del self._stores[page]
                if error is None:
                    error = self._commit_store(page, digest)
            done(error)

        self._put(page, data, digest, landed)

    def _commit_store(self, page: int, digest: int) -> Exception | None:
        """Set the word of a page that has been written; the error where there is no memory."""
        try:
            self._cache.set_in_place(page, digest & 0xFFFFFFFF)
        except StoreRefused as exc:
            return exc
        self.direct_stores += 1
        return None

    @property
    def writethrough(self) -> bool:
        """Whether every store is written out as well."""
        return self._known is not None

    @writethrough.setter
    def writethrough(self, switch: bool) -> None:
        if switch != self.writethrough:
            self._known = array("Q", bytes(8 * self._cache.page_count)) if switch else None

    def write_through(self, page: int, data: bytes | memoryview) -> None:
        """The cache has just stored ``page``: raises `MustGoOut`, for `begin_copy`."""
        if self._known is not None and self._slots.get(page) & KIND_MASK != SAME_FILLED:
            raise MustGoOut(page, bytes(data), copy=True)

    def begin_copy(self, page: int, data: bytes, done: Callable[[OSError | None], None]) -> None:
        """Write a copy of a page that is in the cache."""
        self._put(page, data, _digest(data), done)

    def _put(
        self, page: int, data: bytes, digest: int, landed: Callable[[OSError | None], None]
    ) -> None:
        """Write one page, behind a write of it that is in flight."""
        if page in self._busy:
            self._busy[page].append(lambda: self._put(page, data, digest, landed))
            return
        self._take_off(page)

        def ended(error: OSError | None) -> None:
            if error is None and self._known is not None:
                self._known[page] = digest
            landed(error)
            self._land(page)

        self._file.begin_put(page * PAGE_SIZE, data, ended)

    def _take_off(self, page: int) -> None:
        self._busy[page] = []
        if self._known is not None:
            self._known[page] = 0

    def _land(self, page: int) -> None:
        """The write of ``page`` has ended: the next one of it may begin."""
        waiting = self._busy.pop(page)
        for put in waiting:
            put()
        self._landed.set()
        self._landed = trio.Event()

    # -- loads -------------------------------------------------------------------------

    def begin_read(self, at: int, length: int, done: Callable[[bytes | OSError], None]) -> None:
        """Read pages of the file; the caller looks at their words again."""
        self._file.begin_read(at, length, done)

    # -- eviction ----------------------------------------------------------------------

    async def evict(self, segment: int, *, second_chance: bool) -> Evicted:
        """Write the cold pages of a sealed segment to their places.

        Those loaded since they were stored are spared once: they stay, as if not loaded.
        Pages whose write is in flight stay too.  An error ends it early.
        """
        eviction = _Eviction(self, self._cache, segment, second_chance=second_chance)
        for number, page in enumerate(self._cache.owners_of(segment), 1):
            if not eviction.goes_on:
                break
            eviction.take(page)
            if not number % _PAGES_A_TURN:
                eviction.send()
                await trio.lowlevel.checkpoint()
                while eviction.flying >= _RUNS_AT_ONCE:
                    await self._landed.wait()
        eviction.send()
        while eviction.flying:
            await self._landed.wait()
        return eviction.result

    def is_busy(self, page: int) -> bool:
        """Whether a write of ``page`` is in flight."""
        return page in self._busy

    def has_copy(self, page: int, digest: int) -> bool:
        """Whether the place of ``page`` is known to hold these bytes."""
        return self._known is not None and self._known[page] == digest

    def put_run(self, run: _Run, landed: Callable[[OSError | None], None]) -> None:
        """Write neighbours that are not busy, at once."""
        for page, _, _ in run.pages:
            self._take_off(page)

        def ended(error: OSError | None) -> None:
            if error is None and self._known is not None:
                for page, _, digest in run.pages:
                    self._known[page] = digest
            landed(error)
            for page, _, _ in run.pages:
                self._land(page)

        self._file.begin_put(run.pages[0][0] * PAGE_SIZE, b"".join(run.data), ended)


class _Eviction:
    """One segment on its way to the places of its pages."""

    def __init__(
        self, place: InPlace, cache: CompressedCache, segment: int, *, second_chance: bool
    ) -> None:
        self._place = place
        self._cache = cache
        self._segment = segment
        self._sequence = cache.log.age_of(segment)[0]
        self._spared_mask = REFERENCED if second_chance else 0
        self._run = _Run()
        self.flying = 0
        self.result = Evicted()

    @property
    def goes_on(self) -> bool:
        """Whether the segment is still the one it was, in memory, and nothing failed."""
        log, segment = self._cache.log, self._segment
        same = log.live[segment] > 0 and log.age_of(segment)[0] == self._sequence
        return same and log.bases[segment] >= 0 and self.result.error is None

    def take(self, page: int) -> None:
        """Look at one page that may have an object here, and add it to the run."""
        slots, result = self._cache.slots, self.result
        word = slots.get(page)
        if word >> SEGMENT_ID_SHIFT != self._segment:
            return
        if self._place.is_busy(page):
            result.skipped += 1
            return
        if word & self._spared_mask:
            slots.words[page] = word ^ (REFERENCED | PARITY)
            result.spared += 1
            return
        try:
            data = self._cache.decode(page, word)
        except CorruptData:
            return
        digest = _digest(data)
        if self._place.has_copy(page, digest):
            self._cache.set_in_place(page, digest & 0xFFFFFFFF)
            result.pages += 1
            return
        run = self._run
        if run.pages and (page != run.pages[-1][0] + 1 or len(run.pages) == RUN_PAGES):
            self.send()
            run = self._run
        run.pages.append((page, word, digest))
        run.data.append(data)

    def send(self) -> None:
        """Write the run that was gathered."""
        run = self._run
        if not run.pages:
            return
        self._run = _Run()
        self.flying += 1
        self.result.written_bytes += len(run.data) * PAGE_SIZE

        def landed(error: OSError | None) -> None:
            self.flying -= 1
            if error is not None:
                self.result.error = error
            else:
                self._commit(run)

        self._place.put_run(run, landed)

    def _commit(self, run: _Run) -> None:
        """The write of ``run`` has ended: what is still the same has moved."""
        cache = self._cache
        for page, word, digest in run.pages:
            changed = (cache.slots.get(page) ^ word) & ~(REFERENCED | PARITY)
            if not changed and cache.log.age_of(self._segment)[0] == self._sequence:
                cache.set_in_place(page, digest & 0xFFFFFFFF)
                self.result.pages += 1
