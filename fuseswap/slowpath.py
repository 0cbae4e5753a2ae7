"""What can't be answered at once: pages on a tier, and stores into a full pool.

The rule: decide synchronously, do the I/O afterwards, look again, commit.  Each
method tries the synchronous call first; it is the only one that decides anything.
Where that must wait, this waits, without holding anything, and tries again.

    read    the page is on a tier: its bytes are read, and are the answer only if the
            page is still the one that was looked up
    write   the pool is full: wait for a segment to be freed, in order of arrival; a
            partial write to a page on a tier brings that page back into memory first

Called from the transports, each call in a task of its own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Awaitable, Callable

import trio

from fuseswap.cache.pool import CompressedCache
from fuseswap.errors import CorruptData, MustWait, NoRoom, OnTier, StoreRefused
from fuseswap.swapfile import Swapfile
from fuseswap.units import PAGE_SIZE
from fuseswap.writeback import Writeback

# More pages of one request than this are not read from a tier at once.
_READS_AT_ONCE = 8
# How long stores waited: counted up to each bound, and beyond the last.
WAIT_BOUNDS_S = (0.001, 0.01, 0.1, 1.0)


class SlowPath:
    """Waiting versions of `Swapfile`'s operations."""

    def __init__(self, swapfile: Swapfile, cache: CompressedCache, writeback: Writeback) -> None:
        self._swapfile = swapfile
        self._cache = cache
        self._writeback = writeback
        self._turn = trio.StrictFIFOLock()
        self.waiting_bytes = 0
        self.waits = [0] * (len(WAIT_BOUNDS_S) + 1)

    @property
    def has_queue(self) -> bool:
        """Whether stores wait for room: a new one goes behind them."""
        return self.waiting_bytes > 0

    async def read(self, offset: int, size: int) -> bytes:
        """As `Swapfile.read`."""
        end = min(offset + size, self._swapfile.size_bytes)
        if offset >= end:
            return b""
        first = offset // PAGE_SIZE
        pages = range(first, -(-end // PAGE_SIZE))
        pieces: list[bytes] = [b""] * len(pages)
        errors: list[Exception] = []
        limit = trio.Semaphore(_READS_AT_ONCE)

        async def read_page(index: int) -> None:
            async with limit:
                try:
                    pieces[index] = await self._read_page(pages[index])
                except CorruptData as exc:
                    errors.append(exc)

        async with trio.open_nursery() as nursery:
            for index in range(len(pages)):
                nursery.start_soon(read_page, index)
        if errors:
            raise errors[0]
        start = offset - first * PAGE_SIZE
        return b"".join(pieces)[start : start + end - offset]

    def write(self, offset: int, data: memoryview) -> Awaitable[None]:
        """As `Swapfile.write`, in order of arrival while the pool is full.

        It is in line from the call on, not only once it is awaited.
        """
        self.waiting_bytes += len(data)
        return self._write(offset, data)

    async def _write(self, offset: int, data: memoryview) -> None:
        size = len(data)
        began = trio.current_time()
        try:
            async with self._turn:
                while True:
                    try:
                        self._swapfile.write(offset, data)
                    except MustWait as exc:
                        offset += exc.done
                        data = data[exc.done :]
                        await self._wait_for(exc)
                    else:
                        return
        except StoreRefused:
            self._swapfile.forget(offset, offset + len(data))
            raise
        finally:
            self.waiting_bytes -= size
            self.waits[bisect_left(WAIT_BOUNDS_S, trio.current_time() - began)] += 1

    async def punch(self, offset: int, size: int) -> None:
        """As `Swapfile.punch`; starting over is harmless."""
        await self._retry(lambda: self._swapfile.punch(offset, size))

    async def _retry(self, action: Callable[[], None]) -> None:
        while True:
            try:
                action()
            except MustWait as exc:
                await self._wait_for(exc)
            else:
                return

    async def _wait_for(self, exc: MustWait) -> None:
        """Make it likely that the next try succeeds."""
        if isinstance(exc, OnTier):
            data = await self._fetch(exc)
            if data is None:
                return
            try:
                self._cache.store(exc.page, data, replace=True)
            except NoRoom:
                await self._writeback.wait_for_room()
        else:
            await self._writeback.wait_for_room()

    async def _read_page(self, page: int) -> bytes:
        while True:
            try:
                return self._swapfile.read(page * PAGE_SIZE, PAGE_SIZE)
            except OnTier as miss:
                data = await self._fetch(miss)
                if data is not None:
                    return data

    async def _fetch(self, miss: OnTier) -> bytes | None:
        """The page of ``miss``, None where it changed meanwhile; `CorruptData` where unreadable."""
        stored = await self._writeback.read(miss)
        return self._cache.finish_load(miss, stored)
