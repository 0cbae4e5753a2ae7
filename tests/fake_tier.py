"""A tier in memory whose writes and reads complete, fail or lie when the test says so.

Held operations wait in `writes` and `reads`, oldest first, until the test calls their
`finish` or `fail`.  A held write is torn on purpose: its first half is copied when it
starts and the second when it ends, as a slow device would read the memory it is given.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

import trio

from fuseswap.cache.state import SEGMENT_BYTES

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
