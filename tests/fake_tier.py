"""A tier in memory whose writes and reads complete, fail or lie when the test says so.

Held operations wait in `writes` and `reads`, oldest first, until the test calls their
`finish` or `fail`.  A held write is torn on purpose: its first half is copied when it
starts and the second when it ends, as a slow device would read the memory it is given.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial

import trio

from fuseswap.cache.state import SEGMENT_BYTES
from fuseswap.tier_reader import TierLoad
from fuseswap.units import PAGE_SIZE

_HALF = SEGMENT_BYTES // 2


class Operation:
    """One write or read in flight."""

    def __init__(self, extent: int, *, cancellable: bool = True) -> None:
        self.extent = extent
        self._cancellable = cancellable
        self._error: OSError | None = None
        self._done = trio.Event()

    def finish(self) -> None:
        """It succeeds."""
        self._done.set()

    def fail(self, code: int = errno.EIO) -> None:
        """It raises `OSError`."""
        self._error = OSError(code, "the device failed")
        self._done.set()

    async def end(self) -> None:
        """What the tier waits for."""
        with trio.CancelScope(shield=not self._cancellable):
            await self._done.wait()
        if self._error is not None:
            raise self._error


class FakeTier:
    """See `fuseswap.tiers.Tier`."""

    def __init__(self, extent_count: int) -> None:
        self.extent_count = extent_count
        self.extents: dict[int, bytearray | memoryview] = {}
        self.writes: list[Operation] = []
        self.reads: list[Operation] = []
        self.hold_writes = False
        self.hold_reads = False
        self.fail_writes = False
        self.cancellable = True  # a real tier's writes are not
        self.fail_reads = False
        self.is_bad: Callable[[int, int], bool] | None = None  # offset and length of a read
        self.mangle: Callable[[bytes], bytes] | None = None
        self.most_writes = 0
        self.reads_begun = 0
        self.written: list[int] = []  # extents, in the order their writes ended

    async def write(self, extent: int, segment: memoryview) -> None:
        assert len(segment) == SEGMENT_BYTES
        assert 0 <= extent < self.extent_count
        assert extent not in [write.extent for write in self.writes], "two writes to one extent"
        operation = Operation(extent, cancellable=self.cancellable)
        self.writes.append(operation)
        self.most_writes = max(self.most_writes, len(self.writes))
        kept = self.extents.setdefault(extent, bytearray(SEGMENT_BYTES))
        try:
            kept[:_HALF] = segment[:_HALF]
            if self.fail_writes:
                operation.fail(errno.ENOSPC)
            elif not self.hold_writes:
                operation.finish()
            await operation.end()
            kept[_HALF:] = segment[_HALF:]
            self.written.append(extent)
        finally:
            self.writes.remove(operation)

    async def read(self, extent: int, offset: int, length: int) -> bytes:
        operation = Operation(extent)
        self.reads_begun += 1
        self.reads.append(operation)
        try:
            if self.fail_reads or (self.is_bad and self.is_bad(offset, length)):
                operation.fail()
            elif not self.hold_reads:
                operation.finish()
            await operation.end()
            found = bytes(self.extents[extent][offset : offset + length])
            return self.mangle(found) if self.mangle else found
        finally:
            self.reads.remove(operation)

    def stored(self, miss: TierLoad) -> bytes:
        """What a read for ``miss`` would find."""
        return bytes(self.extents[miss.extent][miss.offset :][: miss.length])

    def begin_read(
        self, extent: int, offset: int, length: int, done: Callable[[bytes | OSError], None]
    ) -> None:
        async def read() -> None:
            try:
                found: bytes | OSError = await self.read(extent, offset, length)
            except OSError as exc:
                found = exc
            done(found)

        trio.lowlevel.spawn_system_task(read)


class Transfer:
    """One read or write of a `FakePlaceFile` in flight; ends once, when told."""

    def __init__(self, at: int, length: int, end: Callable[[OSError | None], None]) -> None:
        self.pages = range(at // PAGE_SIZE, -(-(at + length) // PAGE_SIZE))
        self.ended = False
        self._end = end

    def finish(self) -> None:
        """It succeeds."""
        self._finish(None)

    def fail(self, code: int = errno.EIO) -> None:
        """It fails; of a write, half is there."""
        self._finish(OSError(code, "the device failed"))

    def _finish(self, error: OSError | None) -> None:
        assert not self.ended
        self.ended = True
        self._end(error)


class FakePlaceFile:
    """See `fuseswap.inplace.PlaceFile`.  Two writes of one page at once are an error."""

    def __init__(self, page_count: int) -> None:
        self.bytes: bytearray | memoryview = bytearray(page_count * PAGE_SIZE)
        self.writes: list[Transfer] = []
        self.reads: list[Transfer] = []
        self.hold_writes = False
        self.hold_reads = False
        self.fail_writes = False
        self.written: list[range] = []  # pages, in the order their writes ended
        self._due: list[tuple[Transfer, bool]] = []

    def begin_put(self, at: int, data: bytes, done: Callable[[OSError | None], None]) -> None:
        assert not at % PAGE_SIZE
        assert not len(data) % PAGE_SIZE
        half = len(data) // 2

        def end(error: OSError | None) -> None:
            self.writes.remove(write)
            if error is None:
                self.bytes[at + half : at + len(data)] = data[half:]
                self.written.append(write.pages)
            done(error)

        write = Transfer(at, len(data), end)
        flying = {page for other in self.writes for page in other.pages}
        assert not flying.intersection(write.pages), "two writes of one page"
        self.writes.append(write)
        self.bytes[at : at + half] = data[:half]
        if not self.hold_writes:
            self._later(write, fails=self.fail_writes)

    def begin_read(self, at: int, length: int, done: Callable[[bytes | OSError], None]) -> None:
        def end(error: OSError | None) -> None:
            self.reads.remove(read)
            done(bytes(self.bytes[at : at + length]) if error is None else error)

        read = Transfer(at, length, end)
        self.reads.append(read)
        if not self.hold_reads:
            self._later(read)

    def _later(self, transfer: Transfer, *, fails: bool = False) -> None:
        """End it soon, and in order: trio runs tasks in any."""
        self._due.append((transfer, fails))
        if len(self._due) == 1:
            trio.lowlevel.spawn_system_task(self._end_due)

    async def _end_due(self) -> None:
        while self._due:
            transfer, fails = self._due[0]
            if not transfer.ended:
                (partial(transfer.fail, errno.ENOSPC) if fails else transfer.finish)()
            del self._due[0]

    def let_go(self) -> None:
        """End all writes, and hold none from now on."""
        self.hold_writes = False
        for write in list(self.writes):
            write.finish()

    def forget(self) -> None:
        """The worker has died: what it had in flight ends, and nobody is told."""
        for transfer in [*self.writes, *self.reads]:
            transfer.ended = True
        self.writes.clear()
        self.reads.clear()
        self._due.clear()

    def page(self, page: int) -> bytes:
        """What is at the place of ``page``."""
        return bytes(self.bytes[page * PAGE_SIZE : (page + 1) * PAGE_SIZE])

    def stored(self, miss: TierLoad) -> bytes:
        """What a read for ``miss`` would find."""
        return bytes(self.bytes[miss.offset : miss.offset + miss.length])
