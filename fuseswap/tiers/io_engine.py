"""Engines: how reads and writes reach a device without a wait.

    begin -> the device -> `reap` -> the caller's function gets the result

By Linux AIO, from the one thread of the worker.  A hand-over to another thread costs more
than the I/O (the interpreter lock changes hands twice).  An eventfd wakes
`run`; a transport that polls calls `reap` itself, which costs 0.2 us where nothing has ended.
Where there is no AIO (a container, another processor), threads do it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections import deque
from collections.abc import Callable
from typing import Protocol

import trio

from fuseswap.linux.aio import AIO_READ, AIO_WRITE, AioContext
from fuseswap.tiers.io_threads import IoThreads

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
        """Reap whenever something has ended.  Each of its files may call this: one does it."""

    def close(self) -> None:
        """Wait for what is in flight; nothing is begun afterwards."""


class AioEngine:
    """`Engine` by Linux AIO.  Raises `OSError` where there is none."""

    def __init__(self) -> None:
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._turn = trio.Lock()  # of those that run it
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
        async with self._turn:
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
