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

from fuseswap.tiers.ownership_label import FIRST_PAGE_AT
from fuseswap.tiers.tier import Read, Written
from fuseswap.tiers.tier_reader import TierLoad
from fuseswap.units import PAGE_SIZE, SEGMENT_BYTES

_HALF = SEGMENT_BYTES // 2


class Operation:
    """One write or read in flight; ends once, when told."""

    def __init__(self, extent: int, end: Callable[[Operation, OSError | None], None]) -> None:
        self.extent = extent
        self.ended = trio.Event()
        self._end = end

    def finish(self) -> None:
        """It succeeds."""
        self._finish(None)

    def fail(self, code: int = errno.EIO) -> None:
        """It fails; of a write, half is there."""
        self._finish(OSError(code, "the device failed"))

    def _finish(self, error: OSError | None) -> None:
        assert not self.ended.is_set()
        self.ended.set()
        self._end(self, error)


class FakeTier:
    """See `fuseswap.tiers.tier.Tier`."""

    read_unit = 1
    volatile = False
    is_remote = False
    is_readable = True

    def __init__(
        self, extent_count: int, name: str = "fake", extent_bytes: int = SEGMENT_BYTES
    ) -> None:
        self.name = name
        self.extent_bytes = extent_bytes
        self.second: FakeTier | None = None  # registered after this one
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
        self.timeout_s = 0.0  # never set
        self.written: list[int] = []  # extents, in the order their writes ended
        self.released: list[tuple[int, int]] = []  # extents and generations

    def begin_write(self, extent: int, generation: int, segment: memoryview, done: Written) -> None:
        assert len(segment) == self.extent_bytes
        assert 0 <= extent < self.extent_count
        assert extent not in [write.extent for write in self.writes], "two writes to one extent"
        kept = self.extents.setdefault(extent, bytearray(self.extent_bytes))

        def end(write: Operation, error: OSError | None) -> None:
            self.writes.remove(write)
            if error is None:
                kept[_HALF:] = segment[_HALF:]
                self.written.append(extent)
            done(error)

        write = Operation(extent, end)
        self.writes.append(write)
        self.most_writes = max(self.most_writes, len(self.writes))
        kept[:_HALF] = segment[:_HALF]
        if self.fail_writes:
            _soon(partial(write.fail, errno.ENOSPC))
        elif not self.hold_writes:
            _soon(write.finish)
        elif self.cancellable:
            nursery = trio.lowlevel.current_task().parent_nursery
            assert nursery is not None
            nursery.start_soon(_fail_if_cancelled, write)

    def begin_read(
        self, extent: int, generation: int, offset: int, length: int, done: Read
    ) -> None:
        def end(read: Operation, error: OSError | None) -> None:
            self.reads.remove(read)
            if error is not None:
                done(error)
                return
            found = bytes(self.extents[extent][offset : offset + length])
            done(self.mangle(found) if self.mangle else found)

        read = Operation(extent, end)
        self.reads_begun += 1
        self.reads.append(read)
        if self.fail_reads or (self.is_bad and self.is_bad(offset, length)):
            _soon(read.fail)
        elif not self.hold_reads:
            _soon(read.finish)

    def set_timeout(self, seconds: float) -> None:
        self.timeout_s = seconds

    def offset_of(self, extent: int, offset: int) -> int | None:
        return FIRST_PAGE_AT + extent * SEGMENT_BYTES + offset

    def release(self, extent: int, generation: int) -> None:
        assert extent not in [write.extent for write in self.writes], "released while written"
        self.released.append((extent, generation))

    async def run(self) -> None:
        await trio.sleep_forever()

    def stored(self, miss: TierLoad) -> bytes:
        """What a read for ``miss`` would find."""
        if miss.location.tier:
            assert self.second is not None
            return bytes(self.second.extents[miss.location.extent][miss.offset :][: miss.length])
        return bytes(self.extents[miss.location.extent][miss.offset :][: miss.length])


def _soon(end: Callable[[], None]) -> None:
    """In order: trio runs tasks in any."""
    trio.lowlevel.current_trio_token().run_sync_soon(end)


async def _fail_if_cancelled(write: Operation) -> None:
    """A write that is held ends with the nursery that waits for it."""
    try:
        await write.ended.wait()
    except trio.Cancelled:
        if not write.ended.is_set():
            write.fail(errno.ECANCELED)
        raise


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
    """See `fuseswap.frontswap.raw_file.PlaceFile`.  Two writes of one page at once are an error."""

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
        in_flight = {page for other in self.writes for page in other.pages}
        assert not in_flight.intersection(write.pages), "two writes of one page"
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
