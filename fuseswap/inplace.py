"""The in-place layout: a page on the backing file lies raw at its own offset, as with zswap.

The second backend of the frontswap chain.  Every page has its place, so what the cache
refuses (a page that compresses badly, a full pool nobody can empty) is taken here, and
eviction needs no free extent, no directory and no cleaner on the file.  Its price is
4096 bytes written a page, and one write for each run of neighbours.

    evict        the cold objects of a segment are decompressed and written, runs of
                 neighbours together; acknowledged, each slot word becomes ``IN_PLACE``
                 with the checksum of the page, and the last one frees the segment
    store        refused by the cache: the page is written; acknowledged, its word is set.
                 Until then its bytes are read from here (`_stores`)
    writethrough stored in the cache, and a copy written: evicting it later costs no write

One write of a page is in flight at most (`_busy`), since two could reach the device in
either order, and none while its word says that it is in its place.  A write never commits
what is not the page's any more: an eviction looks at the word again, a store at its entry
in `_stores`, which any later store or discard takes away.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import trio
import xxhash

from fuseswap.cache.pool import CompressedCache
from fuseswap.cache.slot_word import (
    as_stored,
    check_of,
    is_corrupt,
    is_in_place,
    is_loaded,
    is_same_filled,
    is_same_object,
    segment_of,
)
from fuseswap.cache.slots import CLUSTER_SHIFT
from fuseswap.errors import CorruptData, MustGoOut, NoMemory, StoreRefused, kept
from fuseswap.tier_reader import TierLoad, TierReader
from fuseswap.units import PAGE_SIZE, SegmentRef

RUN_PAGES = 16
# Of a segment.  Reads wait behind them: with 16 a touch took 193 us, with 8 it took 175 us.
_RUNS_AT_ONCE = 8
_MOST_RUNS = 64  # of a device that does not answer for `_PATIENCE_S`
_PATIENCE_S = 0.02
_PAGES_A_TURN = 32  # decompressed before others get a turn, about 150 us
_NO_SEGMENT = SegmentRef(0, 0)

_digest = xxhash.xxh3_64_intdigest


class PlaceFile(Protocol):
    """Bytes by offset; ``done`` is called later, never from in here."""

    def begin_read(self, at: int, length: int, done: Callable[[bytes | OSError], None]) -> None:
        """Read ``length`` bytes at ``at``."""

    def begin_put(self, at: int, data: bytes, done: Callable[[OSError | None], None]) -> None:
        """Write whole pages at ``at``; the bytes are copied."""


class Account(Protocol):
    """Who counts what is written, and says whether it may be."""

    def affords(self, count: int) -> bool:
        """Whether ``count`` bytes are left of the budget."""

    def takes_stores(self) -> bool:
        """Whether a page may be written now that has no other place."""

    def put_begins(self, count: int) -> None:
        """``count`` bytes are on their way."""

    def put_ended(self, count: int, error: OSError | None) -> None:
        """They are written, or not."""


@dataclass(slots=True)
class Evicted:
    """What became of one segment.  ``stopped``: by an error, or because the budget is spent."""

    pages: int = 0
    spared: int = 0
    failed: bool = False
    stopped: bool = False


@dataclass(slots=True)
class _Run:
    """At most `RUN_PAGES` neighbours on their way: ``(page, word, digest)``, and their bytes."""

    pages: list[tuple[int, int, int]] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)


class InPlace:
    """Pages of ``cache`` at their own offsets in ``file``."""

    name = "in_place"

    def __init__(self, cache: CompressedCache, file: PlaceFile, reader: TierReader) -> None:
        self._cache = cache
        self._file = file
        self.reader = reader
        self._slots = cache.slots
        # Pages in flight: of a segment in at most `_MOST_RUNS` runs, of each request that
        # stores or copies; and of such requests those that wait for the write before them.
        self._busy: dict[int, list[Callable[[], None]]] = {}
        # By identity: which store it is.  One for each page of a request that waits for it.
        self._stores: dict[int, tuple[bytes]] = {}
        self._known: memoryview | None = None
        self._landed = trio.Event()
        self.account: Account
        self.note_late: Callable[[bool], None] = lambda stored: None
        self.direct_stores = 0

    @property
    def page_count(self) -> int:
        """Pages that are in their places, and nowhere else."""
        return self._cache.in_place_pages

    # -- a frontswap backend ----------------------------------------------------------

    def store(self, page: int, data: bytes | memoryview, replace: bool = False) -> None:
        """Never at once: raises `MustGoOut`, for `begin_store`.

        Or `StoreRefused`: for a partial write, whose old bytes would be gone before the new are
        safe; while the file fails; without a budget.  Or `NoMemory`, for the cluster of its word.
        """
        self._stores.pop(page, None)
        if replace or not self.account.takes_stores():
            self._slots.release_unused(page)
            if replace:
                raise StoreRefused(f"a partial write of page {page} finds no room in memory")
            raise StoreRefused(f"page {page} may not be written to the backing file now")
        if not self._slots.used[page >> CLUSTER_SHIFT]:  # once it is written nothing can wait
            self._slots.allocate(page)
        raise MustGoOut(page, bytes(data))

    def load(self, page: int) -> bytes | None:
        """A page whose store is in flight, None for one that is not here; or raises `Deferred`."""
        store = self._stores.get(page)
        if store is not None:
            return store[0]
        word = self._slots.get(page)
        if not is_in_place(word) or is_corrupt(word):
            return None
        raise TierLoad(
            self.reader, self._finish_load, page, word, _NO_SEGMENT, 0, page * PAGE_SIZE, PAGE_SIZE
        )

    def _finish_load(self, load: TierLoad, stored: bytes, *, final: bool = True) -> bytes | None:
        """See `Finish`."""
        if not is_same_object(self._slots.get(load.page), load.word):
            return None
        if _digest(stored) & 0xFFFFFFFF != check_of(load.word):
            raise self._cache.reader.corrupt(load.page, load.word, "checksum mismatch", final)
        return stored

    def is_landing(self, page: int) -> bool:
        """Whether ``page`` is on its way to its place, and nowhere else."""
        return page in self._stores

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
        store = self._stores[page] = (data,)
        digest = _digest(data)
        self._slots.hold(page)

        def landed(failure: OSError | None) -> None:
            error: StoreRefused | None = None
            if failure is not None:
                error = StoreRefused(f"page {page} cannot be written to its place: {failure}")
            if self._stores.get(page) is store:
                del self._stores[page]
                if error is None:
                    error = self._commit_store(page, digest)
            self._slots.let_go(page)
            self.note_late(error is None)
            done(error)

        self._put(page, data, digest, landed)

    def _commit_store(self, page: int, digest: int) -> StoreRefused | None:
        """Set the word of a page that has been written; the error where there is no memory."""
        try:
            self._cache.set_in_place(page, digest & 0xFFFFFFFF)
        except StoreRefused as exc:
            return kept(exc)
        except NoMemory as exc:
            return StoreRefused(str(exc))
        self.direct_stores += 1
        return None

    @property
    def writethrough(self) -> bool:
        """Whether every store is written out as well."""
        return self._known is not None

    @writethrough.setter
    def writethrough(self, switch: bool) -> None:
        if switch != self.writethrough:  # 8 bytes a page; the memory comes as it is touched
            size = 8 * self._cache.page_count
            self._known = memoryview(mmap.mmap(-1, size)).cast("Q") if switch else None

    def write_through(self, page: int, data: bytes | memoryview) -> None:
        """The cache has just stored ``page``: raises `MustGoOut`, for `begin_copy`."""
        if self._known is not None and not is_same_filled(self._slots.get(page)):
            raise MustGoOut(page, bytes(data), copy=True)

    def begin_copy(self, page: int, data: bytes, done: Callable[[], None]) -> None:
        """Write a copy of a page that is in the cache, and without it is as safe as any other."""
        self._put(page, data, _digest(data), lambda error: done())

    def _put(
        self, page: int, data: bytes, digest: int, landed: Callable[[OSError | None], None]
    ) -> None:
        """Write one page, behind a write of it that is in flight."""
        self.account.put_begins(len(data))  # not later: it was asked for when there was a budget
        if page in self._busy:
            self._busy[page].append(lambda: self._begin(page, [digest], data, landed))
        else:
            self._begin(page, [digest], data, landed)

    def _begin(
        self, first: int, digests: list[int], data: bytes, landed: Callable[[OSError | None], None]
    ) -> None:
        """Write neighbours that are not busy."""
        for page in range(first, first + len(digests)):
            self._busy[page] = []
            if self._known is not None:
                self._known[page] = 0

        def ended(error: OSError | None) -> None:
            self.account.put_ended(len(data), error)  # crash point: place-written
            if error is None and self._known is not None:
                for page, digest in enumerate(digests, first):
                    self._known[page] = digest
            landed(error)
            for page in range(first, first + len(digests)):
                self._land(page)
            self._landed.set()
            self._landed = trio.Event()

        self._file.begin_put(first * PAGE_SIZE, data, ended)  # crash point: place-write

    def _land(self, page: int) -> None:
        """The write of ``page`` has ended: of those that wait the first begins."""
        waiting = self._busy.pop(page)
        if waiting:
            waiting[0]()
            self._busy[page] += waiting[1:]

    # -- eviction ----------------------------------------------------------------------

    async def evict(self, ref: SegmentRef, *, second_chance: bool) -> Evicted:
        """Write the cold pages of a sealed segment to their places.

        Those loaded since they were stored are spared once: they stay, as if not loaded.
        An error ends it early, and so does the end of the budget.
        """
        segment = ref.id
        eviction = _Eviction(self, self._cache, ref, spares=second_chance)
        self._cache.log.close_to_shares(segment)
        first = 0
        try:
            while eviction.goes_on and first < self._cache.page_count:
                pages, first = self._cache.owners_of(segment, first)
                while pages:
                    await self._write_out(eviction, pages)
                    pages, eviction.busy = eviction.busy, []
                    while any(page in self._busy for page in pages):
                        await self._landed.wait()
                if first < self._cache.page_count:
                    await trio.lowlevel.checkpoint()
        finally:
            self._cache.log.open_to_shares(segment)
        return eviction.result

    async def _write_out(self, eviction: _Eviction, pages: list[int]) -> None:
        """Look at each of ``pages``, and wait until what is written has been."""
        most = _RUNS_AT_ONCE
        for number, page in enumerate(pages, 1):
            if not eviction.goes_on:
                break
            eviction.take(page)
            if number % _PAGES_A_TURN and eviction.flying < most:
                continue
            eviction.send()  # what is gathered must not change in a wait
            await trio.lowlevel.checkpoint()
            while eviction.flying >= most:
                with trio.move_on_after(_PATIENCE_S) as patience:
                    await self._landed.wait()
                if patience.cancelled_caught:
                    most = min(2 * most, _MOST_RUNS)
        eviction.send()
        while eviction.flying:
            await self._landed.wait()

    def is_busy(self, page: int) -> bool:
        """Whether a write of ``page`` is in flight."""
        return page in self._busy

    def has_copy(self, page: int, digest: int) -> bool:
        """Whether the place of ``page`` is known to hold these bytes."""
        return self._known is not None and digest != 0 and self._known[page] == digest

    def put_run(self, run: _Run, landed: Callable[[OSError | None], None]) -> None:
        """Write neighbours that are not busy, at once."""
        digests = [digest for _, _, digest in run.pages]
        data = b"".join(run.data)
        self.account.put_begins(len(data))
        self._begin(run.pages[0][0], digests, data, landed)


class _Eviction:
    """One segment on its way to the places of its pages."""

    def __init__(
        self, place: InPlace, cache: CompressedCache, ref: SegmentRef, *, spares: bool
    ) -> None:
        self._place = place
        self._cache = cache
        self._ref = ref
        self._spares = spares
        self._run = _Run()
        self.flying = 0
        self.busy: list[int] = []  # of its pages; looked at again when their writes have ended
        self.result = Evicted()

    @property
    def goes_on(self) -> bool:
        """Whether the segment is still the one it was, in memory, and nothing failed."""
        table, ref = self._cache.log.table, self._ref
        return table.is_current(ref) and table.bases[ref.id] >= 0 and not self.result.stopped

    def take(self, page: int) -> None:
        """Look at one page that may have an object here, and add it to the run."""
        slots, result = self._cache.slots, self.result
        word = slots.get(page)
        if segment_of(word) != self._ref.id:
            return
        if self._place.is_busy(page):
            self.busy.append(page)
            return
        if self._spares and is_loaded(word):
            slots.words[page] = as_stored(word)
            result.spared += 1
            return
        try:
            data = self._cache.reader.decode(page, word)
        except CorruptData:
            return
        digest = _digest(data)
        if self._place.has_copy(page, digest):
            self._cache.set_in_place(page, digest & 0xFFFFFFFF)
            result.pages += 1
            return
        run = self._run
        if run.pages and page != run.pages[-1][0] + 1:
            self.send()
            run = self._run
        run.pages.append((page, word, digest))
        run.data.append(data)
        if len(run.pages) == RUN_PAGES:
            self.send()

    def send(self) -> None:
        """Write the run that was gathered."""
        run = self._run
        if not run.pages:
            return
        self._run = _Run()
        if not self._place.account.affords(len(run.data) * PAGE_SIZE):
            self.result.stopped = True
            return
        self.flying += 1

        def landed(error: OSError | None) -> None:
            self.flying -= 1
            if error is not None:
                self.result.failed = self.result.stopped = True
            else:
                self._commit(run)

        self._place.put_run(run, landed)

    def _commit(self, run: _Run) -> None:
        """The write of ``run`` has ended: what is still the same has moved."""
        cache = self._cache
        for page, word, digest in run.pages:
            same = is_same_object(cache.slots.get(page), word)
            if same and cache.log.table.is_current(self._ref):
                cache.set_in_place(page, digest & 0xFFFFFFFF)
                self.result.pages += 1
