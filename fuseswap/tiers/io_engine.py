"""Engines: how reads and writes reach a device without a wait.

    begin -> the device -> `reap` -> the caller's function gets the result

By Linux AIO, from the one thread of the worker.  A hand-over to another thread costs more
than the I/O (the interpreter lock changes hands twice).  An eventfd wakes
`run`; a transport that polls calls `reap` itself, which costs 0.2 us where nothing has ended.
Where there is no AIO (a container, another processor), threads do it.

io_submit may wait for a lock of the file.  A thread of the kernel has it and waits for memory, and
we have to store the page that makes room.  In a guest that was the end.  So io_submit is told not
to wait, and threads do what would.  They do what is large, too: the block layer splits it, and says
EAGAIN.  Each file has threads of its own: a disk that hangs keeps all that it is given.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

import trio

from fuseswap.linux.aio import AIO_READ, AIO_WRITE, RWF_NOWAIT, AioContext
from fuseswap.tiers.io_threads import IoThreads

log = logging.getLogger(__name__)


SLOTS = 320
_WRITE_SLOTS = 256  # at most: a read never waits for a slot behind writes
_LARGEST = 128 << 10  # bytes that the block layer takes in one piece everywhere
_WAITING_READS, _WAITING_WRITES = 2, 4  # threads: a read never queues behind writes
_WOULD_WAIT = (errno.EAGAIN, errno.EOPNOTSUPP)
_THREADS = 16  # more than writeback_batch_size allows: reads never queue behind writes
Ended = Callable[[int], None]  # gets the count of bytes, or -errno


class Engine(Protocol):
    """How requests reach the device."""

    def know(self, fd: int) -> None:
        """A file that requests will be of, before the first; may take memory."""

    def forget(self, fd: int) -> None:
        """There are no more requests of it, and none is in flight."""

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


class _Request(NamedTuple):
    write: bool
    fd: int
    memory: memoryview
    at: int
    ended: Ended

    def carry_out(self) -> int:
        """Here and now, however long it takes: bytes or -errno."""
        try:
            if self.write:
                return os.pwrite(self.fd, self.memory, self.at)
            return os.preadv(self.fd, [self.memory], self.at)
        except OSError as exc:
            return -(exc.errno or errno.EIO)


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
        self._begun: list[_Request | None] = [None] * SLOTS
        # In line for a slot, or for a thread: a few for each read the kernel has in flight
        # (``pending_io.py``); for each page in flight in place (``raw_file.py``), and each segment
        # on its way out.
        self._reads: deque[_Request] = deque()
        self._writes: deque[_Request] = deque()
        self._writing = 0
        self._threads: dict[int, tuple[IoThreads, IoThreads]] = {}  # of reads and writes, by file
        self._always_wait: set[int] = set()  # files that know no other way
        self.in_flight = 0

    def know(self, fd: int) -> None:
        """See `Engine`."""
        if fd not in self._threads:
            self._threads[fd] = IoThreads(_WAITING_READS), IoThreads(_WAITING_WRITES)

    def forget(self, fd: int) -> None:
        """See `Engine`."""
        self._always_wait.discard(fd)
        for threads in self._threads.pop(fd, ()):
            threads.retire()

    def submit(self, *, write: bool, fd: int, memory: memoryview, at: int, ended: Ended) -> None:
        """See `Engine`."""
        self.in_flight += 1
        request = _Request(write, fd, memory, at, ended)
        if len(memory) > _LARGEST or fd in self._always_wait:
            self._hand_over(request)
        else:
            (self._writes if write else self._reads).append(request)
            self._start_some()

    def _start_some(self) -> None:
        while self._reads and self._free:
            self._start(self._reads.popleft())
        while self._writes and self._free and self._writing < _WRITE_SLOTS:
            self._writing += 1
            self._start(self._writes.popleft())

    def _start(self, request: _Request) -> None:
        slot = self._free.pop()
        self._begun[slot] = request
        opcode = AIO_WRITE if request.write else AIO_READ
        try:
            self._context.submit(slot, opcode, request.fd, request.memory, request.at, RWF_NOWAIT)
        except OSError as exc:
            self._take_back(slot)
            code = exc.errno or errno.EIO
            if code == errno.EOPNOTSUPP:
                self._always_wait.add(request.fd)
            if code in _WOULD_WAIT:
                self._hand_over(request)
            else:
                token = trio.lowlevel.current_trio_token()
                token.run_sync_soon(self._end, request.ended, -code)

    def _take_back(self, slot: int) -> _Request:
        """``slot`` is free again; returns what had it."""
        request = self._begun[slot]
        assert request is not None
        self._begun[slot] = None
        self._free.append(slot)
        self._writing -= request.write
        return request

    def _hand_over(self, request: _Request) -> None:
        """To a thread, which may wait."""
        threads = self._threads[request.fd][request.write]
        threads.submit(request.carry_out, partial(self._end, request.ended))

    def _end(self, ended: Ended, result: int) -> None:
        self.in_flight -= 1
        ended(result)

    def reap(self) -> bool:
        """See `Engine`."""
        results = self._context.ended()
        for slot, result in results:
            request = self._take_back(slot)
            if -result in _WOULD_WAIT:
                self._hand_over(request)
            else:
                self._end(request.ended, result)
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
        for of_file in self._threads.values():
            for threads in of_file:
                threads.close()
        self._context.close()
        os.close(self._eventfd)


class ThreadEngine:
    """`Engine` by threads."""

    def __init__(self, threads: int = _THREADS) -> None:
        """So many for each file."""
        self._count = threads
        self._threads: dict[int, IoThreads] = {}  # by file
        self.in_flight = 0

    def know(self, fd: int) -> None:
        """See `Engine`."""
        if fd not in self._threads:
            self._threads[fd] = IoThreads(self._count)

    def forget(self, fd: int) -> None:
        """See `Engine`."""
        if threads := self._threads.pop(fd, None):
            threads.retire()

    def submit(self, *, write: bool, fd: int, memory: memoryview, at: int, ended: Ended) -> None:
        """See `Engine`."""
        self.in_flight += 1

        def end(result: int) -> None:
            self.in_flight -= 1
            ended(result)

        self._threads[fd].submit(_Request(write, fd, memory, at, ended).carry_out, end)

    def reap(self) -> bool:
        """See `Engine`; the threads call back by themselves."""
        return False

    async def run(self) -> None:
        """See `Engine`."""
        await trio.sleep_forever()

    def close(self) -> None:
        """See `Engine`."""
        for threads in self._threads.values():
            threads.close()


def open_engine() -> Engine:
    """AIO, or threads where there is none."""
    try:
        return AioEngine()
    except OSError as exc:
        log.info("no AIO here (%s): threads do the I/O", exc)
        return ThreadEngine()
