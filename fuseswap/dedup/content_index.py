"""The index of contents: where the same page may be found a second time.  Hints, never trusted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, cast

from fuseswap.store.memory_reserve import AtOnce, Feeder
from fuseswap.store.region import Region
from fuseswap.units import NO_PAGE, PAGE_SIZE, PageNumber

_BUCKET_BYTES = 64
_AHEAD_BYTES = 64 << 10  # made at once by a feeder: for 2700 pages
_ENTRY_BYTES = 8
_ENTRIES = _BUCKET_BYTES // _ENTRY_BYTES
_PAGE_BUCKETS = PAGE_SIZE // _BUCKET_BYTES
_number = int.from_bytes
_page = cast("Callable[[bytes, Literal['little']], PageNumber]", int.from_bytes)
_SPLITS = 54  # buckets at one such look: 432 entries for 128 pages, 80 us


class ContentIndex:
    """The table in ``region``."""

    def __init__(self, region: Region, feeder: Feeder | None = None) -> None:
        """Take over what a former worker left: whole pages from the start of the region."""
        self._region = region
        self._feeder: Feeder = feeder or AtOnce()
        self._map = region.map
        self._most = region.size_bytes // _BUCKET_BYTES
        first = next(region.extents(), (0, 0))
        self.buckets = 0
        self._mask = 0
        present = first[1] // PAGE_SIZE * _PAGE_BUCKETS if first[0] == 0 else 0
        self._set_size(min(present, self._most))
        self._present_bytes = self.allocated_bytes
        self._ordering = False
        self._punch_from(self.buckets)

    @property
    def ready_bytes(self) -> int:
        """Memory that is there for more buckets."""
        return self._present_bytes - self.allocated_bytes

    @property
    def allocated_bytes(self) -> int:
        """Memory of the region, in bytes."""
        return -(-self.buckets // _PAGE_BUCKETS) * PAGE_SIZE

    def exchange(self, page: PageNumber, digest: bytes) -> PageNumber:
        """Enter ``page``; returns the page that had this digest (8 bytes) last, or -1."""
        if not self.buckets:  # no memory for it
            return NO_PAGE
        tag = digest[:4]
        number = _number(tag, "little")
        bucket = number & self._mask
        if bucket < self.buckets - self._mask - 1:
            bucket = number & (2 * self._mask + 1)
        at = bucket * _BUCKET_BYTES
        entries = self._map[at : at + _BUCKET_BYTES]
        found = entries.find(tag)
        while found > 0 and found & 7:
            found = entries.find(tag, found + 1)
        if found < 0:
            used = -(-len(entries.rstrip(b"\0")) // _ENTRY_BYTES)
            place = used if used < _ENTRIES else digest[4] & _ENTRIES - 1
            at += place * _ENTRY_BYTES
            self._map[at : at + _ENTRY_BYTES] = tag + page.to_bytes(4, "little")
            return NO_PAGE
        at += found
        self._map[at + 4 : at + 8] = page.to_bytes(4, "little")
        return _page(entries[found + 4 : found + 8], "little")

    @property
    def entries(self) -> int:
        """How many it has room for."""
        return self.buckets * _ENTRIES

    def grow(self, entries: int, most: int) -> None:
        """Split up to ``most`` buckets towards room for ``entries``, as far as there is memory."""
        wanted = min(-(-entries // _ENTRIES), self._most)
        for _ in range(most):
            if self.buckets >= wanted and self.buckets:
                break
            if self.buckets * _BUCKET_BYTES == self._present_bytes and not self._populate():
                break
            if not self.buckets:
                self._set_size(_PAGE_BUCKETS)  # empty, so nothing has to be split
            else:
                self._split()

    def shrink(self, entries: int) -> None:
        """Give back most of what is more than room for ``entries``; that half is forgotten."""
        wanted = -(-entries // _ENTRIES)
        size = self._mask + 1 if self.buckets else 0
        if not entries:
            size = 0
        while size > _PAGE_BUCKETS and size > 2 * wanted:
            size //= 2
        if size < self.buckets and self.buckets > 4 * wanted:
            self._set_size(size)
            self._punch_from(size)

    def _split(self) -> None:
        """One more bucket: what belongs there of the one it is split from."""
        half = self._mask + 1
        new = self.buckets
        at = (new - half) * _BUCKET_BYTES
        entries = memoryview(self._map[at : at + _BUCKET_BYTES]).cast("Q").tolist()
        stay = [entry for entry in entries if entry and not entry & half]
        go = [entry for entry in entries if entry & half]
        self._fill(new, go)
        self._fill(new - half, stay)
        self._set_size(new + 1)

    def _fill(self, bucket: int, entries: list[int]) -> None:
        at = bucket * _BUCKET_BYTES
        data = b"".join(entry.to_bytes(8, "little") for entry in entries)
        self._map[at : at + _BUCKET_BYTES] = data.ljust(_BUCKET_BYTES, b"\0")

    def _set_size(self, buckets: int) -> None:
        self.buckets = buckets
        self._mask = (1 << max(0, buckets.bit_length() - 1)) - 1

    def _populate(self) -> bool:
        """Have memory for the next buckets; a touch without it would be SIGBUS."""
        self._feeder.collect()
        start = self._present_bytes
        if self.buckets * _BUCKET_BYTES == start and not self._ordering:
            self._ordering = True
            length = min(self._chunk_bytes, self._region.size_bytes - start)
            done = partial(self._made, start, length)
            self._feeder.populate(self._region, start, length, done, can_wait=True)
        return self.buckets * _BUCKET_BYTES < self._present_bytes

    @property
    def _chunk_bytes(self) -> int:
        return _AHEAD_BYTES if self._feeder.deferred else PAGE_SIZE

    def _made(self, start: int, length: int, made: bool) -> None:
        self._ordering = False
        if made and start == self._present_bytes:
            self._present_bytes += length
        else:  # none, or the table has shrunk meanwhile
            self._punch_from(self._present_bytes // _BUCKET_BYTES)

    def _punch_from(self, bucket: int) -> None:
        start = -(-bucket * _BUCKET_BYTES // PAGE_SIZE) * PAGE_SIZE
        self._present_bytes = min(self._present_bytes, start)
        if start < self._region.size_bytes:
            self._region.punch(start, self._region.size_bytes - start)
