"""Writes of segments page by page, each page to its own place (``raw_file.py``).

    note the words -> decompress -> write runs of neighbours -> still the same? -> commit

One task a segment.  A page whose write has ended gets a foreign word with its
checksum, and the last one frees the segment.  An error ends it early, and so does the end
of the budget.  Then the rest of the segment gets in line again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from fuseswap.errors import CorruptData
from fuseswap.frontswap.compressed_cache import CompressedCache
from fuseswap.frontswap.place_writes import RUN_PAGES, digest_of
from fuseswap.frontswap.raw_file import RawFile
from fuseswap.reclaim.write_account import WriteAccount
from fuseswap.reclaim.writeback_statistics import WritebackStatistics
from fuseswap.reclaim.writes_in_flight import WritesInFlight
from fuseswap.store.slot_word import as_stored, is_loaded, is_object_of, is_same_object
from fuseswap.units import FIRST_PAGE, PAGE_SIZE, PageNumber, SegmentId, SegmentRef

# Of a segment.  Reads wait behind them: with 16 a touch took 193 us, with 8 it took 175 us.
_RUNS_AT_ONCE = 8
_MOST_RUNS = 64  # of a device that does not answer for `_PATIENCE_S`
_PATIENCE_S = 0.02
_PAGES_A_TURN = 32  # decompressed before others get a turn, about 150 us


class PlaceWriter:
    """Segments of ``cache`` on their way to the places of their pages."""

    def __init__(
        self,
        cache: CompressedCache,
        place: RawFile,
        account: WriteAccount,
        in_flight: WritesInFlight,
        counters: WritebackStatistics,
    ) -> None:
        self._cache = cache
        self._place = place
        self._account = account
        self._in_flight = in_flight
        self._counters = counters

    @property
    def has_tier(self) -> bool:
        """See `PageWriter`."""
        return True

    @property
    def units_taken(self) -> int:
        """Pages that are in their places."""
        return self._place.stored_pages

    def can_write(self) -> bool:
        """Whether another segment may leave now."""
        return self._account.may_begin(RUN_PAGES * PAGE_SIZE)

    def send(
        self,
        nursery: trio.Nursery,
        segment: SegmentId,
        *,
        second_chance: bool,
        only: Sequence[PageNumber] | None = None,
    ) -> None:
        """Start to write the cold pages of a sealed segment to their places.

        With a ``second_chance`` pages loaded since they were stored stay, as if not loaded.
        With ``only``, sorted and at most as many as a segment has, all others stay.
        """
        ref = self._cache.log.table.ref(segment)
        self._in_flight.begin(ref, self._account.health)
        self._counters.writeback_attempted += 1
        nursery.start_soon(self._write, ref, second_chance, only)

    async def _write(
        self, ref: SegmentRef, second_chance: bool, only: Sequence[PageNumber] | None = None
    ) -> None:
        """Write page by page; the rest of the segment gets in line again."""
        log = self._cache.log
        try:
            eviction = _Eviction(self._cache, self._place, ref, spares=second_chance, only=only)
            await eviction.run()
            self._counters.written_back_pages += eviction.pages
            if log.table.is_current(ref):
                goes_on = eviction.pages or eviction.spared or eviction.is_stopped
                if goes_on or only is not None:
                    log.eviction_queue.add(ref.id, first=eviction.has_failed)
                else:
                    log.table.pin(ref.id)  # the rest of it is corrupt
        finally:
            self._in_flight.end(ref)


@dataclass(slots=True)
class _Run:
    """At most `RUN_PAGES` neighbours on their way: ``(page, word, digest)``, and their bytes."""

    pages: list[tuple[PageNumber, int, int]] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)


class _Eviction:
    """One segment on its way to the places of its pages."""

    def __init__(
        self,
        cache: CompressedCache,
        place: RawFile,
        ref: SegmentRef,
        *,
        spares: bool,
        only: Sequence[PageNumber] | None,
    ) -> None:
        self._cache = cache
        self._place = place
        self._ref = ref
        self._spares = spares
        self._only = only
        self._run = _Run()
        self._runs_in_flight = 0
        # Of its pages: looked at again when their writes have ended.
        self._busy: list[PageNumber] = []
        self.pages = 0  # that are in their places now
        self.spared = 0
        self.has_failed = False
        self.is_stopped = False  # by an error, or because the budget is spent

    async def run(self) -> None:
        """Write what is cold."""
        cache, segment = self._cache, self._ref.id
        cache.log.close_to_shares(segment)
        first = FIRST_PAGE
        try:
            while self._goes_on and first < cache.page_count:
                if self._only is None:
                    pages, first = cache.owners_of(segment, first)
                else:
                    pages, first = list(self._only), PageNumber(cache.page_count)
                while pages:
                    await self._write_out(pages)
                    pages, self._busy = self._busy, []
                    while any(self._place.writes.is_busy(page) for page in pages):
                        await self._place.writes.wait_for_a_write()
                if first < cache.page_count:
                    await trio.lowlevel.checkpoint()
        finally:
            cache.log.open_to_shares(segment)

    @property
    def _goes_on(self) -> bool:
        """Whether the segment is still the one it was, in memory, and nothing failed."""
        table, ref = self._cache.log.table, self._ref
        return table.is_current(ref) and table.bases[ref.id] >= 0 and not self.is_stopped

    async def _write_out(self, pages: list[PageNumber]) -> None:
        """Look at each of ``pages``, and wait until all writes have ended."""
        most = _RUNS_AT_ONCE
        for number, page in enumerate(pages, 1):
            if not self._goes_on:
                break
            self._take(page)
            if number % _PAGES_A_TURN and self._runs_in_flight < most:
                continue
            self._send()  # the gathered pages must not change in a wait
            await trio.lowlevel.checkpoint()
            while self._runs_in_flight >= most:
                with trio.move_on_after(_PATIENCE_S) as patience:
                    await self._place.writes.wait_for_a_write()
                if patience.cancelled_caught:
                    most = min(2 * most, _MOST_RUNS)
        self._send()
        while self._runs_in_flight:
            await self._place.writes.wait_for_a_write()

    def _take(self, page: PageNumber) -> None:
        """Look at one page that may have an object here, and add it to the run."""
        slots = self._cache.slots
        word = slots.get(page)
        if not is_object_of(word, self._ref.id):
            return
        if self._place.writes.is_busy(page):
            self._busy.append(page)
            return
        if self._spares and is_loaded(word):
            slots.words[page] = as_stored(word)
            self.spared += 1
            return
        try:
            data = self._cache.reader.decode(page, word)
        except CorruptData:
            return
        digest = digest_of(data)
        if self._place.writes.has_copy(page, digest):
            self._move(page, word, digest)
            return
        run = self._run
        if run.pages and page != run.pages[-1][0] + 1:
            self._send()
            run = self._run
        run.pages.append((page, word, digest))
        run.data.append(data)
        if len(run.pages) == RUN_PAGES:
            self._send()

    def _send(self) -> None:
        """Write the run that was gathered."""
        run = self._run
        if not run.pages:
            return
        self._run = _Run()

        def done(error: OSError | None) -> None:
            self._runs_in_flight -= 1
            if error is not None:
                self.has_failed = self.is_stopped = True
            else:
                self._commit(run)

        digests = [digest for _, _, digest in run.pages]
        if self._place.writes.put_run(run.pages[0][0], digests, b"".join(run.data), done):
            self._runs_in_flight += 1
        else:
            self.is_stopped = True

    def _commit(self, run: _Run) -> None:
        """The write of ``run`` has ended: pages that are still the same have moved."""
        cache = self._cache
        for page, word, digest in run.pages:
            same = is_same_object(cache.slots.get(page), word)
            if same and cache.log.table.is_current(self._ref):
                self._move(page, word, digest)

    def _move(self, page: PageNumber, word: int, digest: int) -> None:
        """The bytes of ``page`` are at its place: the commit."""
        self._cache.slots.words[page] = self._place.word_of(digest)  # crash point: place-commit
        self._cache.release(page, word)  # crash point: place-release
        self.pages += 1
