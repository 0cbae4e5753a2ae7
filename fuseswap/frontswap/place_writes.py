"""Writes of pages to their own places on a file, for `RawFile` and ``place_writer.py``.

At most one write of a page is in flight (`is_busy`), since two could reach the device in either
order.  Those of a store or a copy stand behind it; an eviction goes round it.  With
`notes_copies` it is known of each place which bytes it has.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Protocol

import trio
import xxhash

from fuseswap.reclaim.write_account import WriteAccount
from fuseswap.units import PAGE_SIZE, PageNumber, numbered, page_range

RUN_PAGES = 16

digest_of = xxhash.xxh3_64_intdigest


class PlaceFile(Protocol):
    """Bytes by offset; ``done`` is called later, never from in here."""

    def begin_read(self, at: int, length: int, done: Callable[[bytes | OSError], None]) -> None:
        """Read ``length`` bytes at ``at``."""

    def begin_put(self, at: int, data: bytes, done: Callable[[OSError | None], None]) -> None:
        """Write whole pages at ``at``; the bytes are copied."""


class PlaceWrites:
    """Writes to ``file``, each on the ``account``."""

    def __init__(self, file: PlaceFile, account: WriteAccount, page_count: int) -> None:
        self._file = file
        self._account = account
        self._page_count = page_count
        # Pages in flight: of a segment in at most 64 runs (``place_writer.py``), of each request
        # that stores or copies; and of such requests those that wait for the write before them.
        self._busy: dict[PageNumber, list[Callable[[], None]]] = {}
        self._known: memoryview | None = None
        self._write_ended = trio.Event()

    @property
    def notes_copies(self) -> bool:
        """Whether `has_copy` knows what was written."""
        return self._known is not None

    @notes_copies.setter
    def notes_copies(self, switch: bool) -> None:
        if switch != self.notes_copies:  # 8 bytes a page; the memory comes as it is touched
            # The digest of each place, from the success of a write to the start of the next.
            size = 8 * self._page_count
            self._known = memoryview(mmap.mmap(-1, size)).cast("Q") if switch else None

    def set_timeout(self, seconds: float) -> None:
        """How long none may end before the file gets no more; see `TierHealth`."""
        self._account.health.timeout_s = seconds

    def put(
        self, page: PageNumber, data: bytes, digest: int, written: Callable[[OSError | None], None]
    ) -> None:
        """Write one page, behind a write of it that is in flight."""
        self._account.begin(len(data))  # not later: it was asked for when there was a budget
        if page in self._busy:
            self._busy[page].append(lambda: self._begin(page, [digest], data, written))
        else:
            self._begin(page, [digest], data, written)

    def _begin(
        self,
        first: PageNumber,
        digests: list[int],
        data: bytes,
        written: Callable[[OSError | None], None],
    ) -> None:
        """Write neighbours that are not busy."""
        for page in page_range(first, first + len(digests)):
            self._busy[page] = []
            if self._known is not None:
                self._known[page] = 0

        def ended(error: OSError | None) -> None:
            self._account.end(len(data), error)  # crash point: place-written
            if error is None and self._known is not None:
                for page, digest in numbered(digests, first):
                    self._known[page] = digest
            written(error)
            for page in page_range(first, first + len(digests)):
                self._land(page)
            self._write_ended.set()
            self._write_ended = trio.Event()

        self._file.begin_put(first * PAGE_SIZE, data, ended)  # crash point: place-write

    def _land(self, page: PageNumber) -> None:
        """The write of ``page`` has ended: of those that wait the first begins."""
        waiting = self._busy.pop(page)
        if waiting:
            waiting[0]()
            self._busy[page] += waiting[1:]

    def is_busy(self, page: PageNumber) -> bool:
        """Whether a write of ``page`` is in flight."""
        return page in self._busy

    def has_copy(self, page: PageNumber, digest: int) -> bool:
        """Whether the place of ``page`` is known to hold these bytes."""
        return self._known is not None and digest != 0 and self._known[page] == digest

    def put_run(
        self,
        first: PageNumber,
        digests: list[int],
        data: bytes,
        written: Callable[[OSError | None], None],
    ) -> bool:
        """Write neighbours that are not busy, at once; False where the budget is spent."""
        if not self._account.affords(len(data)):
            return False
        self._account.begin(len(data))
        self._begin(first, digests, data, written)
        return True

    async def wait_for_a_write(self) -> None:
        """Wait until a write of some page has ended."""
        await self._write_ended.wait()
