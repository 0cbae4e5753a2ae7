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

import errno
import logging
import os
from collections.abc import Callable
from functools import partial

import trio

from fuseswap.tiers.callbacks import await_callback, result_of
from fuseswap.tiers.io_buffers import Buffers
from fuseswap.tiers.io_engine import Engine
from fuseswap.tiers.ownership_label import FIRST_PAGE_AT, room_bytes
from fuseswap.units import PAGE_SIZE

log = logging.getLogger(__name__)


class DirectFile:
    """The bytes between the ends of a backing file (``ownership_label.py``), counted from 0.

    Offsets of writes are multiples of 4096; reads take any range.
    """

    def __init__(self, fd: int, engine: Engine, buffers: Buffers | None = None) -> None:
        self._fd = fd
        self.engine = engine
        engine.know(fd)
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
        self.begin_fill(at, len(data), partial(_copy, data), done)

    def begin_fill(
        self,
        at: int,
        length: int,
        fill: Callable[[memoryview], None],
        done: Callable[[OSError | None], None],
    ) -> None:
        """As `begin_write`, of ``length`` bytes that ``fill`` puts into a buffer of ours."""
        self._buffers.take(length, partial(self._fill, at, length, fill, done))

    def _fill(
        self,
        at: int,
        length: int,
        fill: Callable[[memoryview], None],
        done: Callable[[OSError | None], None],
        buffer: memoryview,
    ) -> None:
        memory = buffer[:length]
        fill(memory)

        def ended(error: OSError | None) -> None:
            self._buffers.give_back(buffer)
            done(error)

        self.begin_write(at, memory, ended)

    async def write(self, at: int, memory: memoryview) -> None:
        """As `begin_write`; raises `OSError`.  Not cancellable, since the I/O is not."""
        with trio.CancelScope(shield=True):
            result_of(await await_callback(partial(self.begin_write, at, memory)))


def _copy(data: bytes, memory: memoryview) -> None:
    memory[:] = data
