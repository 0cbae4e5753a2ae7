"""A backend of a plugin, behind a guard: whatever it does, no other page is at risk.

    class Shelf:
        def __init__(self, memory: mmap.mmap) -> None: ...      # outlives the worker
        def put(self, data: bytes) -> int | None: ...           # its cookie, 32 bits; None: refused
        def get(self, cookie: int) -> bytes: ...
        def drop(self, cookie: int) -> None: ...
        def adopt(self, cookie: int) -> bool: ...               # left by a former worker

It knows neither words nor page numbers.  ``data`` has `STORED_BYTES`: the low half of xxh3 of the
page, seeded by the page's number, and the page.

    put    what it took is got back at once, and compared.  Wrong, or an exception: refused, so
           the next backend has the page.  Set aside, it is not asked any more
    get    compared with its check, and tried twice: `CorruptData`, never another page
    drop   an exception is counted, and its frame is lost to it
    adopt  the same: the page is `CorruptData` then, as one of no backend

One that never returns ends the worker.  ``shelf_notes.py`` has the next one know where that was.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

import xxhash

from fuseswap.errors import CorruptData, StoreRefused, reason_of
from fuseswap.frontswap.backend import Data
from fuseswap.frontswap.shelf_notes import OTHERWISE, SHELF_NOTES_BYTES, ShelfNotes
from fuseswap.plugins.health import PluginHealth
from fuseswap.store.slot_word import cookie_of, foreign_word
from fuseswap.units import PAGE_SIZE, PageNumber

_CHECK_BYTES = 4
STORED_BYTES = _CHECK_BYTES + PAGE_SIZE
_COOKIES = 1 << 32

_xxh3 = xxhash.xxh3_64_intdigest


class Shelf(Protocol):
    """What a plugin has to be; none of it may wait, or keep what it is given but by `put`."""

    def put(self, data: bytes) -> int | None:
        """Keep ``data``; a cookie of 32 bits that no other has, or None where it does not."""

    def get(self, cookie: int) -> bytes:
        """The data of ``cookie``."""

    def drop(self, cookie: int) -> None:
        """``cookie`` is not needed any more."""

    def adopt(self, cookie: int) -> bool:
        """A former worker put data there: it is, or it is not."""


class PluginBackend:
    """The `Backend` of ``shelf``, whose faults ``health`` counts."""

    def __init__(
        self,
        shelf: Shelf,
        number: int,
        health: PluginHealth,
        clock: Callable[[], float] = time.perf_counter,
        *,
        name: str = "",
        size_bytes: int = 0,
        notes: ShelfNotes | None = None,
    ) -> None:
        """``name``: of this one, where the plugin has several; ``size_bytes``: of its memory."""
        self._notes = notes or ShelfNotes(bytearray(SHELF_NOTES_BYTES))
        self.name = name or health.name
        self.size_bytes = size_bytes
        self.number = number
        self.health = health
        self.stored_pages = 0
        watched = partial(self._notes.watched, number)
        self._put_whole = watched(shelf.put, lambda whole: OTHERWISE)
        self._get = watched(shelf.get, lambda cookie: cookie)
        self._drop = watched(shelf.drop, lambda cookie: OTHERWISE)
        self._adopt = watched(shelf.adopt, lambda cookie: OTHERWISE)
        self._clock = clock

    def init(self, page_count: int) -> None:
        """Nothing: it knows no pages."""

    def store(self, page: PageNumber, data: Data, old: int, replace: bool = False) -> int:
        """The word of ``page``; raises `StoreRefused`."""
        if self.health.is_set_aside:
            raise StoreRefused(f"page {page}: {self.health.label} was set aside")
        whole = _check_of(page, data) + bytes(data)
        cookie = self._put(whole)
        if cookie is None:
            raise StoreRefused(f"page {page}: {self.health.label} does not take it")
        self.stored_pages += 1
        return foreign_word(self.number, cookie)

    def _put(self, whole: bytes) -> int | None:
        health = self.health
        began = self._clock()
        try:
            cookie = self._put_whole(whole)
            if cookie is None:
                return None
            if type(cookie) is not int or not 0 <= cookie < _COOKIES:
                health.note_wrong("put: its cookie is no number of 32 bits")
                return None
            got = self._get(cookie)
            if type(got) is not bytes or got != whole:
                health.note_wrong("get: it does not have what it took")
                self._drop(cookie)
                return None
        except BaseException as exc:
            health.note_raised(reason_of(exc))
            return None
        finally:
            health.note_time(self._clock() - began)
        return cookie

    def load(self, page: PageNumber, word: int) -> bytes:
        """The page; raises `CorruptData`."""
        cookie = cookie_of(word)
        if self._notes.ends_workers(self.number, cookie):
            raise CorruptData(f"page {page}: workers ended while {self.health.label} loaded it")
        for _ in range(2):
            began = self._clock()
            try:
                whole = self._get(cookie)
                if type(whole) is bytes and len(whole) == STORED_BYTES:
                    data = whole[_CHECK_BYTES:]
                    if _check_of(page, data) == whole[:_CHECK_BYTES]:
                        return data
                self.health.note_wrong("get: it is not what it took")
            except BaseException as exc:
                self.health.note_raised(f"get: {reason_of(exc)}")
            finally:
                self.health.note_time(self._clock() - began)
        raise CorruptData(f"page {page}: {self.health.label} does not have it")

    def release(self, page: PageNumber, word: int) -> None:
        """It is not needed any more."""
        self.stored_pages -= 1
        began = self._clock()
        try:
            self._drop(cookie_of(word))
        except BaseException as exc:
            self.health.note_raised(f"drop: {reason_of(exc)}")
        finally:
            self.health.note_time(self._clock() - began)

    def adopt(self, page: PageNumber, word: int) -> bool:
        """Count a page of a former worker."""
        try:
            known = self._adopt(cookie_of(word)) is True
        except BaseException as exc:
            self.health.note_raised(f"adopt: {reason_of(exc)}")
            known = False
        self.stored_pages += known
        return known

    def invalidate_area(self) -> None:
        """Nothing: each page was dropped before."""

    def close(self) -> None:
        """It was removed, and is empty: let go of the memory."""
        del self._put_whole, self._get, self._drop, self._adopt

    def finish_adoption(self) -> bool:
        """There is no more to it."""
        return True


def _check_of(page: PageNumber, data: Data) -> bytes:
    return (_xxh3(data, page) & 0xFFFFFFFF).to_bytes(_CHECK_BYTES, "little")
