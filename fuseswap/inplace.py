"""The in-place layout: a page on the backing file lies raw at its own offset, as with zswap.

The second backend of the frontswap chain.  Every page has its place.  So it takes what the
cache refuses: a page that compresses badly, or any page while the pool is full for good.
Eviction needs no free extent, no directory and no cleaner on the file.  Its price is
4096 bytes written a page, and one write for each run of neighbours.

    evict        ``place_writer.py``
    store        refused by the cache: the page is written; acknowledged, its word is set.
                 Until then its bytes are read from here (`_stores`)
    writethrough stored in the cache, and a copy written: evicting it later costs no write

At most one write of a page is in flight (`_busy`), since two could reach the device in
either order.  While its word says that the page is in its place there is none.  A write
never commits bytes that are not the page's any more.  An eviction looks at the word again,
a store at its entry in `_stores`, which any later store or discard takes away.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Protocol

import trio
import xxhash

from fuseswap.cache.pool import CompressedCache
from fuseswap.cache.slot_word import (
    check_of,
    is_corrupt,
    is_in_place,
    is_same_filled,
    is_same_object,
)
from fuseswap.cache.slots import CLUSTER_SHIFT
from fuseswap.errors import MustGoOut, NoMemory, StoreRefused, kept
from fuseswap.tier_reader import TierLoad, TierReader
from fuseswap.units import PAGE_SIZE, SegmentRef
from fuseswap.write_account import WriteAccount
from fuseswap.writeback_statistics import WritebackStatistics

RUN_PAGES = 16
_NO_SEGMENT = SegmentRef(0, 0)

digest_of = xxhash.xxh3_64_intdigest


class PlaceFile(Protocol):
    """Bytes by offset; ``done`` is called later, never from in here."""

    def begin_read(self, at: int, length: int, done: Callable[[bytes | OSError], None]) -> None:
        """Read ``length`` bytes at ``at``."""

    def begin_put(self, at: int, data: bytes, done: Callable[[OSError | None], None]) -> None:
        """Write whole pages at ``at``; the bytes are copied."""


class InPlace:
    """Pages of ``cache`` at their own offsets in ``file``."""

    name = "in_place"

    def __init__(
        self,
        cache: CompressedCache,
        file: PlaceFile,
        reader: TierReader,
        account: WriteAccount,
        counters: WritebackStatistics,
        note_late: Callable[[bool], None],
    ) -> None:
        """``note_late`` is told of each store that ends: whether the page is stored."""
        self._cache = cache
        self._file = file
        self.reader = reader
        self._account = account
        self._counters = counters
        self._slots = cache.slots
        # Pages in flight: of a segment in at most 64 runs (``place_writer.py``), of each request
        # that stores or copies; and of such requests those that wait for the write before them.
        self._busy: dict[int, list[Callable[[], None]]] = {}
        # By identity: which store it is.  One for each page of a request that waits for it.
        self._stores: dict[int, tuple[bytes]] = {}
        self._known: memoryview | None = None
        self._landed = trio.Event()
        self._note_late = note_late

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
        if replace or not self._account.may_begin_soon(PAGE_SIZE):
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
        if digest_of(stored) & 0xFFFFFFFF != check_of(load.word):
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
        digest = digest_of(data)
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
            self._note_late(error is None)
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
        self._counters.in_place_stores += 1
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
        """Write a copy of a page in memory, which is as safe without it; then call ``done``.

        At once, without a copy, where none may be written now.
        """
        if self._account.may_begin(RUN_PAGES * PAGE_SIZE):
            self._put(page, data, digest_of(data), lambda error: done())
        else:
            done()

    def _put(
        self, page: int, data: bytes, digest: int, landed: Callable[[OSError | None], None]
    ) -> None:
        """Write one page, behind a write of it that is in flight."""
        self._account.begin(len(data))  # not later: it was asked for when there was a budget
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
            self._account.end(len(data), error)  # crash point: place-written
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

    # -- for eviction ------------------------------------------------------------------

    def is_busy(self, page: int) -> bool:
        """Whether a write of ``page`` is in flight."""
        return page in self._busy

    def has_copy(self, page: int, digest: int) -> bool:
        """Whether the place of ``page`` is known to hold these bytes."""
        return self._known is not None and digest != 0 and self._known[page] == digest

    def put_run(
        self, first: int, digests: list[int], data: bytes, landed: Callable[[OSError | None], None]
    ) -> bool:
        """Write neighbours that are not busy, at once; False where the budget is spent."""
        if not self._account.affords(len(data)):
            return False
        self._account.begin(len(data))
        self._begin(first, digests, data, landed)
        return True

    async def wait_for_a_write(self) -> None:
        """Wait until a write of some page has ended."""
        await self._landed.wait()
