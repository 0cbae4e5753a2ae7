"""Direct I/O without a wait: reads and writes of an O_DIRECT descriptor.

    begin -> the device -> `reap` -> the caller's function gets the result

By Linux AIO, from the one thread of the worker.  A hand-over to another thread costs more
than the I/O (the interpreter lock changes hands twice).  An eventfd wakes
`run`; a transport that polls calls `reap` itself, which costs 0.2 us where nothing has ended.
Where there is no AIO (a container, another processor), threads do it.

At most `SLOTS` requests are with the device, the others wait in line, and so do those for which
no buffer is free (``io_buffers.py``).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

import trio

from fuseswap.linux.aio import AIO_READ, AIO_WRITE, AioContext
from fuseswap.tiers.callbacks import called, result_of
from fuseswap.tiers.io_buffers import Buffers
from fuseswap.tiers.io_threads import IoThreads
from fuseswap.tiers.ownership_label import FIRST_PAGE_AT, room_bytes
from fuseswap.units import PAGE_SIZE

log = logging.getLogger(__name__)

SLOTS = 320
_WRITE_SLOTS = 256  # at most: a read never waits for a slot behind writes
_THREADS = 16  # more than writeback_batch_size allows: reads never queue behind writes

Ended = Callable[[int], None]  # gets the count of bytes, or -errno


class Engine(Protocol):
    """How requests reach the device."""

    def submit(self, *, write: bool, fd: int, memory: memoryview, at: int, ended: Ended) -> None:
        """Begin; ``ended`` is called later, never from in here."""

    def reap(self) -> bool:
        """Call ``ended`` of what has ended; whether there was something."""

    @property
    def in_flight(self) -> int:
        """Requests begun and not ended."""

    async def run(self) -> None:
        """Reap whenever something has ended."""

    def close(self) -> None:
        """Wait for what is in flight; nothing is begun afterwards."""


class AioEngine:
    """`Engine` by Linux AIO.  Raises `OSError` where there is none."""

    def __init__(self) -> None:
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            self._context = AioContext(SLOTS, self._eventfd)
        except OSError:
            os.close(self._eventfd)
            raise
        self._free = list(range(SLOTS))
        self._ended: list[tuple[Ended, memoryview, bool] | None] = [None] * SLOTS
        # In line for a slot: a few for each read the kernel has in flight (``pending_io.py``); for
        # each page in flight in place (``raw_file.py``), and each segment on its way out.
        self._reads: deque[tuple[int, memoryview, int, Ended]] = deque()
        self._writes: deque[tuple[int, memoryview, int, Ended]] = deque()
        self._writing = 0
        self.in_flight = 0

    def submit(self, *, write: bool, fd: int, memory: memoryview, at: int, ended: Ended) -> None:
        """See `Engine`."""
        self.in_flight += 1
        (self._writes if write else self._reads).append((fd, memory, at, ended))
        self._start_some()

    def _start_some(self) -> None:
        while self._reads and self._free:
            self._start(False, *self._reads.popleft())
        while self._writes and self._free and self._writing < _WRITE_SLOTS:
            self._writing += 1
            self._start(True, *self._writes.popleft())

    def _start(self, write: bool, fd: int, memory: memoryview, at: int, ended: Ended) -> None:
        slot = self._free.pop()
        self._ended[slot] = ended, memory, write
        opcode = AIO_WRITE if write else AIO_READ
        try:
            self._context.submit(slot, opcode, fd, memory, at)
        except OSError as exc:
            self._ended[slot] = None
            self._free.append(slot)
            self._writing -= write
            code = exc.errno or errno.EIO
            trio.lowlevel.current_trio_token().run_sync_soon(self._end, ended, -code)

    def _end(self, ended: Ended, result: int) -> None:
        self.in_flight -= 1
        ended(result)

    def reap(self) -> bool:
        """See `Engine`."""
        results = self._context.ended()
        for slot, result in results:
            entry = self._ended[slot]
            assert entry is not None
            self._ended[slot] = None
            self._free.append(slot)
            self._writing -= entry[2]
            self._end(entry[0], result)
        self._start_some()
        return bool(results)

    async def run(self) -> None:
        """See `Engine`."""
        while True:
            await trio.lowlevel.wait_readable(self._eventfd)
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._eventfd)
            self.reap()

    def close(self) -> None:
        """See `Engine`."""
        self._context.close()
        os.close(self._eventfd)


class ThreadEngine:
    """`Engine` by threads."""

    def __init__(self, threads: int = _THREADS) -> None:
        self._threads = IoThreads(threads)
        self.in_flight = 0

    def submit(self, *, write: bool, fd: int, memory: memoryview, at: int, ended: Ended) -> None:
        """See `Engine`."""
        self.in_flight += 1

        def work() -> int:
            try:
                return os.pwrite(fd, memory, at) if write else os.preadv(fd, [memory], at)
            except OSError as exc:
                return -(exc.errno or errno.EIO)

        def end(result: int) -> None:
            self.in_flight -= 1
            ended(result)

        self._threads.submit(work, end)

    def reap(self) -> bool:
        """See `Engine`; the threads call back by themselves."""
        return False

    async def run(self) -> None:
        """See `Engine`."""
        await trio.sleep_forever()

    def close(self) -> None:
        """See `Engine`."""
        self._threads.close()


def open_engine() -> Engine:
    """AIO, or threads where there is none."""
    try:
        return AioEngine()
    except OSError as exc:
        log.info("no AIO here (%s): threads do the I/O", exc)
        return ThreadEngine()


class DirectFile:
    """The bytes between the ends of a backing file (``ownership_label.py``), counted from 0.

    Offsets of writes are multiples of 4096; reads take any range.
    """

    def __init__(self, fd: int, engine: Engine, buffers: Buffers | None = None) -> None:
        self._fd = fd
        self.engine = engine
        self.size_bytes = room_bytes(os.lseek(fd, 0, os.SEEK_END))
        self._buffers = buffers or Buffers()

    def begin_read(self, at: int, length: int, done: Callable[[bytes | OSError], None]) -> None:
        """Read ``length`` bytes at ``at``: the blocks around them, and no more."""
        at += FIRST_PAGE_AT
        first = at & -PAGE_SIZE
        span = (at + length - first + PAGE_SIZE - 1) & -PAGE_SIZE
        self._buffers.take(span, partial(self._read_into, first, span, at - first, length, done))

    def _read_into(
        self,
        first: int,
        span: int,
        start: int,
        length: int,
        done: Callable[[bytes | OSError], None],
        buffer: memoryview,
    ) -> None:
        """Read ``span`` bytes at ``first``; wanted are ``length`` of them, from ``start`` on."""
        memory = buffer[:span]

        def ended(result: int) -> None:
            if result < 0:
                found: bytes | OSError = OSError(-result, os.strerror(-result))
            elif result < start + length:
                found = OSError(errno.EIO, f"short read: {result} of {span} bytes")
            else:
                found = bytes(memory[start : start + length])
            self._buffers.give_back(buffer)
            done(found)

        self.engine.submit(write=False, fd=self._fd, memory=memory, at=first, ended=ended)

    def begin_write(
        self, at: int, memory: memoryview, done: Callable[[OSError | None], None]
    ) -> None:
        """Write all of ``memory`` (page-aligned, whole blocks, not changed until done)."""
        self._write_rest(at + FIRST_PAGE_AT, memory, 0, done)

    def _write_rest(
        self, at: int, memory: memoryview, start: int, done: Callable[[OSError | None], None]
    ) -> None:
        """From ``start`` on.  A method, since a closure that names itself is a cycle."""
        size = len(memory)

        def ended(result: int) -> None:
            if result < 0:
                done(OSError(-result, os.strerror(-result)))
            elif start + result == size:
                done(None)
            elif not result or result % PAGE_SIZE:
                message = f"short write: {start + result} of {size} bytes"
                done(OSError(errno.EIO, message))
            else:
                self._write_rest(at, memory, start + result, done)

        rest = memory[start:]
        self.engine.submit(write=True, fd=self._fd, memory=rest, at=at + start, ended=ended)

    def begin_put(self, at: int, data: bytes, done: Callable[[OSError | None], None]) -> None:
        """As `begin_write`, of a copy of ``data`` (whole pages, anywhere)."""
        self._buffers.take(len(data), partial(self._put, at, data, done))

    def _put(
        self, at: int, data: bytes, done: Callable[[OSError | None], None], buffer: memoryview
    ) -> None:
        memory = buffer[: len(data)]
        memory[:] = data

        def ended(error: OSError | None) -> None:
            self._buffers.give_back(buffer)
            done(error)

        self.begin_write(at, memory, ended)

    async def write(self, at: int, memory: memoryview) -> None:
        """As `begin_write`; raises `OSError`.  Not cancellable, since the I/O is not."""
        with trio.CancelScope(shield=True):
            result_of(await called(partial(self.begin_write, at, memory)))
