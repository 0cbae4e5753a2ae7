"""A cache with its cleaner, and a dict of what should be in it."""

from __future__ import annotations

from fuseswap.store.cleaner import Cleaner
from fuseswap.store.geometry import Geometry
from fuseswap.store.segment_entry import Stream
from fuseswap.units import PageNumber, SegmentId
from tests.support.log_invariants import StoredObject, check_invariants
from tests.support.memory_stores import SharedMemory
from tests.support.tiered_devices import dense

ROOMY = Geometry(page_count=4096, segment_count=13, frame_count=12)


class Cleaned:
    """One worker's cache; make another one for the next."""

    def __init__(self, memory: SharedMemory) -> None:
        self.memory = memory
        self.cache = memory.attach_cache()
        self.log = self.cache.log
        self.cleaner = Cleaner(self.cache.slots, self.log, self.cache.decoder)
        self.expected: dict[int, bytes] = {}

    def store(self, page: int, seed: int | None = None) -> None:
        self.expected[page] = dense(page if seed is None else seed)
        self.cache.store(page, self.expected[page])

    def discard(self, page: int) -> None:
        self.cache.invalidate_page(page)
        self.expected.pop(page, None)

    def seal_one(self) -> SegmentId:
        """Fill one more segment; return its id."""
        head = self.log.heads[Stream.STORE]
        self.log.seal(head)
        page = max(self.expected, default=-1) + 1
        self.store(page)
        segment = head.segment
        while head.bound - head.tail > 4096:
            page += 1
            self.store(page)
        self.log.seal(head)
        return segment

    def pages_of(self, segment: SegmentId) -> list[int]:
        get = self.cache.slots.get
        return [
            p for p in self.expected if StoredObject.of(p, get(PageNumber(p))).segment == segment
        ]

    def thin_out(self, segment: SegmentId, share: float) -> None:
        """Discard pages of ``segment`` until about ``share`` of it lives."""
        found = self.pages_of(segment)
        for page in found[int(share * len(found)) :]:
            self.discard(page)

    def clean_up(self) -> int:
        """Steps until there is nothing worth cleaning."""
        for count in range(1000):
            if not self.cleaner.step():
                return count
        raise AssertionError("it never ends")

    def check(self) -> None:
        check_invariants(self.cache)
        assert {page: self.cache.load(page) for page in self.expected} == self.expected
        assert self.cache.slots.stored_pages == len(self.expected)
