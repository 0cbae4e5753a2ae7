"""Pages as they are in memory, or in a file on persistent memory (DAX): the backend ``raw``.

    | check | check | ... | page | page | ...

Slot i has the i-th check (4 bytes, the low half of xxh3 of the page, seeded by its number) and the
i-th 4096 bytes.  The slot is the cookie of the page's word.  So a store is one copy and one hash,
a load too.  A bit that turned over, and a word of another page, are both found.

The memory is a file that the supervisor holds, and outlives the worker.  Which slots are free is
derived: the next worker takes those that no word names, and no store before all words were seen.
A store that was not committed leaves a slot without a word.

The pages of the mapping are made ahead (``memory_reserve.py``); slots are taken as they are ready.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

import xxhash

from fuseswap.errors import CorruptData, StoreRefused
from fuseswap.frontswap.raw_size import slots_in
from fuseswap.store.memory_reserve import Feeder
from fuseswap.store.region import Region
from fuseswap.store.slot_word import cookie_of, foreign_word
from fuseswap.units import MIB, PAGE_SIZE, PageNumber

_CHECK_MASK = 0xFFFFFFFF
_PIECE_BYTES = MIB  # made at once

_checksum = xxhash.xxh3_64_intdigest


class RawMemory:
    """Uncompressed pages in the slots of ``memory``."""

    def __init__(
        self,
        name: str,
        number: int,
        memory: Region,
        feeder: Feeder,
        corrupt: Callable[[PageNumber, int, str], CorruptData],
    ) -> None:
        """``corrupt`` counts, logs and makes the error of a page and its word."""
        self.name = name
        self.number = number
        self._memory = memory
        self._map = memory.map
        self._feeder = feeder
        self._corrupt = corrupt
        self.slot_count = slots_in(memory.size_bytes)
        self._pages_at = memory.size_bytes - self.slot_count * PAGE_SIZE
        self._checks = memory.buffer[: self._pages_at].cast("I")
        self._taken = bytearray(self.slot_count)  # 1 byte a slot
        self._made_bytes = 0
        self._ordering = False
        self._ready = 0  # slots whose memory is there
        self._next = 0  # where to look for a free one
        self._is_open = self._is_closed = False
        self.stored_pages = 0

    def init(self, page_count: int) -> None:
        """Have its memory made."""
        self._make_more()

    def _make_more(self) -> None:
        """Order the next piece, and so on to the end; without a feeder all of it at once."""
        left = self._memory.size_bytes - self._made_bytes
        if self._ordering or not left:
            return
        self._ordering = True
        length = min(_PIECE_BYTES, left) if self._feeder.deferred else left
        done = partial(self._made, self._made_bytes + length)
        self._feeder.populate(self._memory, self._made_bytes, length, done, can_wait=True)

    def _made(self, end: int, made: bool) -> None:
        """Where there was no memory, a store that is refused orders it again."""
        self._ordering = False
        if self._is_closed:
            self.close()
        elif made:
            self._made_bytes = end
            self._ready = max(0, min(end - self._pages_at >> 12, self.slot_count))
            self._make_more()

    def store(
        self, page: PageNumber, data: bytes | memoryview, old: int, replace: bool = False
    ) -> int:
        """Copy 4096 bytes into a free slot; raises `StoreRefused` where none is."""
        if self.stored_pages >= self._ready or not self._is_open:
            self._make_more()
            raise StoreRefused(f"backend '{self.name}' has no slot for page {page}")
        slot = self._taken.find(0, self._next, self._ready)
        if slot < 0:
            slot = self._taken.find(0, 0, self._ready)
        at = self._pages_at + slot * PAGE_SIZE
        self._map[at : at + PAGE_SIZE] = data
        self._checks[slot] = _checksum(data, page) & _CHECK_MASK
        self._taken[slot] = 1
        self._next = slot + 1
        self.stored_pages += 1
        return foreign_word(self.number, slot)

    def load(self, page: PageNumber, word: int) -> bytes:
        """The page in the slot of ``word``; raises `CorruptData`."""
        data = self._read(page, word)
        if data is None:
            raise self._corrupt(page, word, f"wrong slot or checksum in backend '{self.name}'")
        return data

    def is_sound(self, page: PageNumber, word: int) -> bool:
        """Whether `load` would find it; leaves no trace."""
        return self._read(page, word) is not None

    def _read(self, page: PageNumber, word: int) -> bytes | None:
        slot = cookie_of(word)
        if slot >= self.slot_count:
            return None
        at = self._pages_at + slot * PAGE_SIZE
        data = self._map[at : at + PAGE_SIZE]
        return data if _checksum(data, page) & _CHECK_MASK == self._checks[slot] else None

    def release(self, page: PageNumber, word: int) -> None:
        """Its slot is free."""
        slot = cookie_of(word)
        if slot < self.slot_count and self._taken[slot]:
            self._taken[slot] = 0
            self.stored_pages -= 1

    def adopt(self, page: PageNumber, word: int) -> bool:
        """Its slot is taken; False where there is none, or another page has it."""
        slot = cookie_of(word)
        if slot >= self.slot_count or self._taken[slot]:
            return False
        self._taken[slot] = 1
        self.stored_pages += 1
        return True

    def finish_adoption(self) -> bool:
        """Slots that no word names are free from here on."""
        self._is_open = True
        return True

    def invalidate_area(self) -> None:
        """All slots are free: begin with the first ones."""
        self._next = 0

    @property
    def size_bytes(self) -> int:
        """Room for pages."""
        return self.slot_count * PAGE_SIZE

    def close(self) -> None:
        """Give the memory back, which nothing is in."""
        self._is_closed = True
        self._checks.release()
        with contextlib.suppress(OSError):  # not every file can
            self._memory.punch(0, self._memory.size_bytes)
