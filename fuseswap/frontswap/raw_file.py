"""The in-place layout: a page on the backing file lies raw at its own offset, as with zswap.

The second backend of the frontswap chain.  Every page has its place.  So it takes what the
cache refuses: a page that compresses badly, or any page while the pool is full for good.
Eviction needs no free extent, no directory and no cleaner on the file.  Its price is
4096 bytes written a page, and one write for each run of neighbours.

    evict        ``place_writer.py``
    store        refused by the cache: the page is written; acknowledged, it has a word
    writethrough stored in the cache, and a copy written: evicting it later costs no write

The cookie of its words is the checksum of the page, as it was before the file encrypted it
(``tiers/encrypted_file.py``).  At most one write of a page is in flight
(``place_writes.py``).  While the word says that the page is in its place there is none.  An
eviction looks at the word again before it commits bytes; that
of a store is looked at by the front end.
"""

from __future__ import annotations

from collections.abc import Callable

from fuseswap.errors import Deferred, StoreRefused
from fuseswap.frontswap.backend import IN_PLACE
from fuseswap.frontswap.compressed_cache import CompressedCache
from fuseswap.frontswap.place_writes import RUN_PAGES, PlaceFile, PlaceWrites, digest_of
from fuseswap.reclaim.write_account import WriteAccount
from fuseswap.reclaim.writeback_statistics import WritebackStatistics
from fuseswap.store.slot_word import cookie_of, foreign_word, is_same_filled, is_same_object
from fuseswap.tiers.tier_reader import TierLoad, TierReader
from fuseswap.units import (
    NO_SEGMENT,
    PAGE_SIZE,
    Location,
    PageNumber,
    SegmentRef,
)

_NO_SEGMENT = SegmentRef(NO_SEGMENT, 0)
_NO_TIER = Location(0, 0)

Answer = Callable[["int | Exception"], None]


class PlaceStore(Deferred):
    """A page that has to be written to its place."""

    taken = True

    def __init__(
        self, begin: Callable[[PageNumber, bytes, Answer], None], page: PageNumber, data: bytes
    ) -> None:
        super().__init__(f"page {page} has to be written to the backing file")
        self._begin = begin
        self.page = page
        self._data = data

    def begin(self, answer: Answer) -> None:
        """See `Deferred`."""
        self._begin(self.page, self._data, answer)


class RawFile:
    """Pages of ``cache`` at their own offsets in ``file``."""

    name = "file"
    number = IN_PLACE

    def __init__(
        self,
        cache: CompressedCache,
        file: PlaceFile,
        reader: TierReader,
        account: WriteAccount,
        counters: WritebackStatistics,
    ) -> None:
        self._cache = cache
        self.reader = reader
        self._account = account
        self._counters = counters
        self._slots = cache.slots
        self.writes = PlaceWrites(file, account, cache.page_count)
        self.stored_pages = 0  # in their places, and nowhere else

    # -- a frontswap backend ----------------------------------------------------------

    def init(self, page_count: int) -> None:
        """Nothing: every page has its place."""

    def store(
        self, page: PageNumber, data: bytes | memoryview, old: int, replace: bool = False
    ) -> int:
        """Never at once: raises `PlaceStore`.

        Or `StoreRefused`: while the file fails; without a budget.
        """
        if replace or not self._account.may_begin_soon(PAGE_SIZE):
            raise StoreRefused(f"page {page} may not be written to the backing file now")
        raise PlaceStore(self._begin_store, page, bytes(data))

    def load(self, page: PageNumber, word: int) -> bytes:
        """Never at once: raises `Deferred`."""
        raise TierLoad(
            self.reader,
            self._finish_load,
            page,
            word,
            _NO_SEGMENT,
            _NO_TIER,
            page * PAGE_SIZE,
            PAGE_SIZE,
        )

    def _finish_load(self, load: TierLoad, stored: bytes, *, final: bool = True) -> bytes | None:
        """See `Finish`."""
        if not is_same_object(self._slots.get(load.page), load.word):
            return None
        if digest_of(stored) & 0xFFFFFFFF != cookie_of(load.word):
            raise self._cache.reader.corrupt(load.page, load.word, "checksum mismatch", final)
        return stored

    def release(self, page: PageNumber, word: int) -> None:
        """The page is not needed at its place any more."""
        self.stored_pages -= 1

    def adopt(self, page: PageNumber, word: int) -> bool:
        """Count a page that a former worker wrote."""
        self.stored_pages += 1
        return True

    def finish_adoption(self) -> bool:
        """There is no more to it."""
        return True

    def invalidate_area(self) -> None:
        """Nothing: every page has its place."""

    def word_of(self, digest: int) -> int:
        """The word, to be committed, of a page whose bytes (of ``digest``) are at its place now."""
        self.stored_pages += 1
        return foreign_word(self.number, digest & 0xFFFFFFFF)

    # -- stores ------------------------------------------------------------------------

    def _begin_store(self, page: PageNumber, data: bytes, answer: Answer) -> None:
        """Write a page the cache refused; ``answer`` gets its word once it is, or the error."""
        digest = digest_of(data)

        def written(failure: OSError | None) -> None:
            if failure is None:
                self._counters.in_place_stores += 1
                answer(self.word_of(digest))
            else:
                answer(StoreRefused(f"page {page} cannot be written to its place: {failure}"))

        self.writes.put(page, data, digest, written)

    @property
    def writethrough(self) -> bool:
        """Whether every store is written out as well."""
        return self.writes.notes_copies

    @writethrough.setter
    def writethrough(self, switch: bool) -> None:
        self.writes.notes_copies = switch

    def write_through(self, page: PageNumber, data: bytes | memoryview) -> None:
        """The cache has just stored ``page``: raises a `PlaceStore` that writes a copy."""
        if self.writethrough and not is_same_filled(self._slots.get(page)):
            raise PlaceStore(self._begin_copy, page, bytes(data))

    def _begin_copy(self, page: PageNumber, data: bytes, answer: Answer) -> None:
        """Write a copy of a page in memory, which is as safe without it; then answer 0.

        At once, without a copy, where none may be written now.
        """
        if self._account.may_begin(RUN_PAGES * PAGE_SIZE):
            self.writes.put(page, data, digest_of(data), lambda error: answer(0))
        else:
            answer(0)
