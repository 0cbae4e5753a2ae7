"""Forgetting pages: one, an area, or an area in bounded steps.

A page takes about 1 us, so an area of 4 GiB would keep everybody waiting for a second.  A step
ends after `STEP_PAGES` that were stored, `STEP_CLUSTERS` that were empty, or `STEP_NS`, whichever
comes first.  Each of its pieces clears up to 128 words in one copy, and then counts them off.

A step knows nothing of those before it.  The caller sees to it that no page behind them is stored
anew and wants to stay (``discards.py``).
"""

from __future__ import annotations

from time import perf_counter_ns

from fuseswap.frontswap.adoption import Adoption
from fuseswap.frontswap.counters import FrontswapStatistics
from fuseswap.frontswap.links import Links
from fuseswap.store.slot_table import CLUSTER_SHIFT, SlotTable
from fuseswap.units import PageNumber, numbered

STEP_PAGES = 512  # 2 MiB, which swap frees at once
STEP_CLUSTERS = 4096  # 0.2 ms
STEP_NS = 1_000_000
_PIECE = 128


class Invalidation:
    """Over the words of ``slots``; ``late``: what `Frontswap` has of stores that end later."""

    def __init__(
        self,
        slots: SlotTable,
        links: Links,
        adoption: Adoption,
        late: dict[PageNumber, tuple[bytes]],
        counters: FrontswapStatistics,
    ) -> None:
        self._slots = slots
        self._links = links
        self._adoption = adoption
        self._late = late
        self._counters = counters
        self.step_pages = STEP_PAGES
        self.step_ns = STEP_NS

    def page(self, page: PageNumber) -> None:
        """Forget ``page``."""
        self._adoption.count(page >> CLUSTER_SHIFT)
        self._late.pop(page, None)
        word = self._slots.get(page)
        if word:
            self._slots.clear(page)
            self._links.release(page, word)  # crash point: discard-release
            self._counters.invalidates += 1

    def area(self, first: PageNumber, count: int) -> None:
        """Forget ``count`` pages from ``first``."""
        end = min(first + count, self._slots.page_count)
        page = first
        while page < end:
            page = self.some(page, end)
        self.ended(first, end)

    def some(self, first: PageNumber, end: int) -> PageNumber:
        """One step: forget pages from ``first`` on, before ``end``; returns where to go on."""
        used, shift = self._slots.used, CLUSTER_SHIFT
        left, stop_ns = self.step_pages, perf_counter_ns() + self.step_ns
        last = min(end, (first >> shift) + STEP_CLUSTERS << shift)
        page = int(first)
        while page < last:
            cluster = page >> shift
            next_cluster = cluster + 1 << shift
            if not used[cluster]:
                page = next_cluster
                continue
            if page > first and (left <= 0 or perf_counter_ns() > stop_ns):
                break
            self._adoption.count(cluster)
            piece_end = min(end, page + _PIECE, next_cluster)
            left -= self._forget(PageNumber(page), piece_end)
            page = piece_end
        page = min(page, last)
        if self._late:
            for late in [late for late in self._late if first <= late < page]:
                del self._late[late]
        return PageNumber(page)

    def _forget(self, first: PageNumber, end: int) -> int:
        """Pages before ``end``, all in one cluster; returns how many of them were stored."""
        release, forgotten = self._links.release, 0
        for start, words in self._slots.clear_area(first, end):
            for page, word in numbered(words, start):
                if word:
                    release(page, word)  # crash point: discard-area-release
                    forgotten += 1
        self._counters.invalidates += forgotten
        return forgotten

    def ended(self, first: PageNumber, end: int) -> None:
        """All steps of an area were taken."""
        if first <= 1 and end == self._slots.page_count:  # swapon leaves its header alone
            for link in self._links.chain:
                link.backend.invalidate_area()
