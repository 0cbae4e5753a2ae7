"""A frontswap backend that keeps pages in a dict, and refuses, fails or waits when told to.

Its words are foreign, with a key of its dict as the cookie; those of number None are words of
objects, which the key is the offset of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fuseswap.errors import CorruptData, Deferred, StoreRefused
from fuseswap.frontswap.chain import Frontswap
from fuseswap.store.slot_table import SlotTable
from fuseswap.store.slot_word import cookie_of, foreign_word, object_word, offset_of
from fuseswap.units import SegmentId
from tests.support.memory_stores import SharedMemory

CORRUPT = b"corrupt"


class Later(Deferred):
    """A store that ends when the test says so."""

    def __init__(self, backend: FakeBackend, page: int, data: bytes) -> None:
        super().__init__("later")
        self._backend = backend
        self.page = page
        self.data = data
        self._answer: Callable[[Any], None] | None = None

    def begin(self, answer: Callable[[Any], None]) -> None:
        self._answer = answer
        self._backend.waiting.append(self)

    def end(self, error: Exception | None = None) -> None:
        """It has written the page, or failed."""
        assert self._answer is not None
        self._backend.waiting.remove(self)
        self._answer(error or self._backend.keep(self.page, self.data))


class FakeBackend:
    """What it holds is ``kept``, by key; what it releases it must have had."""

    def __init__(self, name: str, number: int | None) -> None:
        self.name = name
        self.number = number
        self.error: Exception | None = None
        self.says_later = False
        self.waiting: list[Later] = []
        self.kept: dict[int, tuple[int, bytes]] = {}
        self.stores: list[tuple[int, int, bool]] = []
        self.adopted: list[int] = []
        self.pieces_left = 2
        self.page_count = 0
        self.areas_gone = 0
        self._next = 1

    def init(self, page_count: int) -> None:
        self.page_count = page_count

    def keep(self, page: int, data: bytes) -> int:
        """The word of a page it has from here on."""
        key, self._next = self._next, self._next + 1
        self.kept[key] = page, data
        if self.number is None:
            return object_word(SegmentId(1), 8 * key, 4096, 4)
        return foreign_word(self.number, key)

    def _key(self, word: int) -> int:
        return offset_of(word) // 8 if self.number is None else cookie_of(word)

    def store(self, page: int, data: bytes | memoryview, old: int, replace: bool = False) -> int:
        self.stores.append((page, old, replace))
        if self.error:
            raise self.error
        if self.says_later:
            raise Later(self, page, bytes(data))
        return self.keep(page, bytes(data))

    def load(self, page: int, word: int) -> bytes:
        kept_for, data = self.kept[self._key(word)]
        assert kept_for == page
        if data == CORRUPT:
            raise CorruptData(f"page {page}")
        return data

    def release(self, page: int, word: int) -> None:
        kept_for, _ = self.kept.pop(self._key(word))
        assert kept_for == page

    def adopt(self, page: int, word: int) -> bool:
        self.adopted.append(page)
        return self._key(word) in self.kept

    def finish_adoption(self) -> bool:
        self.pieces_left -= 1
        return self.pieces_left <= 0

    def invalidate_area(self) -> None:
        self.areas_gone += 1

    @property
    def stored_pages(self) -> int:
        return len(self.kept)


class Broken(StoreRefused):
    """A refusal that the patience of a test waits for."""


def chain_of(count: int, memory: SharedMemory) -> tuple[Frontswap, list[FakeBackend]]:
    """A front end with ``count`` backends; the first has the words of objects."""
    state = memory.attach()
    frontswap = Frontswap(SlotTable(state.slots, state.geometry.page_count))
    backends = [FakeBackend(f"backend{n}", n - 1 if n else None) for n in range(count)]
    for order, backend in enumerate(backends):
        frontswap.register(backend, order=order)
    frontswap.adopt_all()
    return frontswap, backends
