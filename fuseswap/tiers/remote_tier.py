"""The remote tier, seen from the worker: places in shared memory, and small packets.

The protocol is in ``remote_wire.py``.  The server's client lives in another process, which may die,
hang or leak.  So no request of this side waits for it, or allocates for it:

    begin -> in line for a place -> sent -> answered: done
                  |                   '-> too late: ETIMEDOUT; its place is kept until the
                  '-> too late: ETIMEDOUT         process answers or another one says hello

Reads and writes have lines and places of their own, so reads never stand behind writes.  In line
are reads of the transport, which bounds them, and segments that ``reclaim`` has chosen; each leaves
it after `tier_timeout` or `write_timeout_s`.  A segment is copied when it has its place: 0.2 ms.

Where a read is too late, and no request was answered since it began, the process is silent.  Then
reads wait for `_PROBE_S` together, and after that fail at once for `_REST_S`, or until there is
another process, or an answer.  A process tells by itself which server does not answer.

A send never waits.  Where the socket is full, `run` goes on when it can be written again.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections import deque
from typing import Any

import trio

from fuseswap.tiers import remote_wire as wire
from fuseswap.tiers.callbacks import fail_later
from fuseswap.tiers.tier import TIER_TIMEOUT_S, Read, Written
from fuseswap.units import PAGE_SIZE

log = logging.getLogger(__name__)

WRITE_TIMEOUT_S = 5.0
_PROBE_S = 1.0
_REST_S = 5.0
_TICK_S = 0.1
_MARGIN_S = 0.2  # so much earlier the process gives up, and says so
_RELEASES = 4096  # that wait for a process; the oldest is dropped then, and its key stays there
_DONTWAIT = socket.MSG_DONTWAIT


class _Request:
    """A read or write that has not ended."""

    __slots__ = (
        "began",
        "done",
        "extent",
        "length",
        "number",
        "offset",
        "place",
        "segment",
        "version",
    )

    def __init__(
        self, number: int, extent: int, version: int, offset: int, length: int, done: Any
    ) -> None:
        self.began = trio.current_time()
        self.number = number
        self.extent = extent
        self.version = version
        self.offset = offset
        self.length = length
        self.done = done
        self.segment: memoryview | None = None
        self.place = 0  # none


class _Line:
    """Places of one kind, and the requests that use them or wait for one.

    ``unfinished`` has by number the requests that have not ended, oldest first.  ``overdue`` has
    the places of those that ended too late, as many as there are places at most.
    """

    def __init__(self, operation: int, kind: wire.Kind, start: int) -> None:
        self.operation = operation
        self.size = kind.size
        self.free = [start + number * kind.size for number in range(kind.places)]
        self.waiting: deque[_Request] = deque()  # see the module
        self.unfinished: dict[int, _Request] = {}  # those in line and in places
        self.overdue: dict[int, int] = {}


class RemoteTier:
    """Segments at a server, by way of a tier process; a `fuseswap.tiers.tier.Tier`."""

    read_unit = 1
    is_remote = True

    def __init__(
        self,
        name: str,
        worker_end: socket.socket,
        memory_fd: int,
        extent_count: int,
        *,
        volatile: bool,
        write_timeout_s: float = WRITE_TIMEOUT_S,
    ) -> None:
        """``worker_end`` and ``memory_fd`` are kept open by the caller, also after this."""
        self.name = name
        self.extent_count = extent_count
        self.volatile = volatile
        self.is_readable = True
        self.processes = 0  # that have said hello
        self.releases_dropped = 0
        self._socket = worker_end
        self._memory = memoryview(wire.map_memory(memory_fd))
        versions = self._memory[wire.VERSIONS_START :].cast("Q")
        self._versions = versions[:extent_count]
        self._epoch = int.from_bytes(os.urandom(8), "little") | 1
        self._incarnation = 0  # of the process that knows the epoch
        self._sent = 0
        start = PAGE_SIZE
        self._reads = []
        for kind in wire.READS:
            self._reads.append(_Line(wire.READ, kind, start))
            start += kind.size * kind.places
        self._writes = _Line(wire.WRITE, wire.WRITES, wire.WRITES_START)
        self._write_timeout_s = write_timeout_s
        self.set_timeout(TIER_TIMEOUT_S)
        self._answered_at = 0.0
        self._is_silent = False
        self._rests_until = 0.0  # while it is silent
        self._lines = (*self._reads, self._writes)
        self._begins = False
        self._out: deque[bytes] = deque()  # one for each place at most
        self._releases: deque[tuple[int, int]] = deque(maxlen=_RELEASES)
        self._answer = bytearray(wire.ANSWER.size + 1)  # one that is longer shows
        self._full = trio.Event()

    @property
    def busy_places(self) -> int:
        """Places that are not free, also those of what was too late."""
        places = sum(kind.places for kind in wire.KINDS)
        return places - sum(len(line.free) for line in self._lines)

    # -- the tier ----------------------------------------------------------------------

    def begin_write(self, extent: int, generation: int, segment: memoryview, done: Written) -> None:
        """See `Tier`; ``segment`` has at most `LARGEST_BYTES` of ``remote_wire.py``."""
        old = self._versions[extent]
        if old:  # a worker may have died before it released this
            self._release(extent, old)
        self._versions[extent] = wire.next_version(generation, old)
        request = self._request(extent, generation, 0, len(segment), done)
        request.segment = segment
        self._enqueue(self._writes, request)

    def begin_read(
        self, extent: int, generation: int, offset: int, length: int, done: Read
    ) -> None:
        """See `Tier`; at most `LARGEST_BYTES` of ``remote_wire.py``."""
        if self._is_silent and trio.current_time() < self._rests_until:
            fail_later(done, OSError(errno.ETIMEDOUT, f"{self.name}: its process is silent"))
            return
        request = self._request(extent, generation, offset, length, done)
        for line in self._reads:
            if length <= line.size:
                self._enqueue(line, request)
                return
        fail_later(done, OSError(errno.EINVAL, f"{self.name}: {length} bytes are too many"))

    def set_timeout(self, seconds: float) -> None:
        """See `Tier`; it holds for reads that have begun, too."""
        self._timeout_s = seconds
        self._limit_ms = max(1, int((seconds - _MARGIN_S) * 1000))

    def offset_of(self, extent: int, offset: int) -> int | None:
        """See `Tier`."""
        return None

    def release(self, extent: int, generation: int) -> None:
        """See `Tier`: the key is deleted, soon and if possible."""
        self._release(extent, self._version(extent, generation))
        self._flush()

    async def run(self) -> None:
        """See `Tier`."""
        self._begins = True
        self._flush()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive)
            nursery.start_soon(self._go_on_sending)
            nursery.start_soon(self._watch_time)

    # -- requests ----------------------------------------------------------------------

    def _request(
        self, extent: int, generation: int, offset: int, length: int, done: Any
    ) -> _Request:
        self._sent += 1
        version = self._version(extent, generation)
        return _Request(self._sent, extent, version, offset, length, done)

    def _version(self, extent: int, generation: int) -> int:
        last = self._versions[extent]
        return last if wire.is_of(generation, last) else wire.next_version(generation, last)

    def _release(self, extent: int, version: int) -> None:
        self.releases_dropped += len(self._releases) == _RELEASES
        self._releases.append((extent, version))

    def _enqueue(self, line: _Line, request: _Request) -> None:
        line.unfinished[request.number] = request
        line.waiting.append(request)
        self._start(line)

    def _start(self, line: _Line) -> None:
        """Give places to those in line; none before the process has forgotten older epochs."""
        if not self._incarnation:
            return
        while line.waiting and line.free:
            request = line.waiting.popleft()
            request.place = line.free.pop()
            if request.segment is not None:
                self._memory[request.place : request.place + request.length] = request.segment
                request.segment = None
            self._out.append(self._packet(line.operation, request))
        self._flush()

    def _packet(self, operation: int, request: _Request) -> bytes:
        return wire.REQUEST.pack(
            operation,
            self._limit_ms if operation == wire.READ else 0,
            self._epoch,
            self._incarnation,
            request.number,
            request.version,
            request.extent,
            request.offset,
            request.length,
            request.place,
        )

    def _flush(self) -> None:
        """Send what there is to be sent, as far as the socket takes it."""
        try:
            if self._begins:
                self._send(wire.REQUEST.pack(wire.BEGIN, 0, self._epoch, 0, 0, 0, 0, 0, 0, 0))
                self._begins = False
            if not self._incarnation:
                return
            while self._out:
                self._send(self._out[0])
                self._out.popleft()
            while self._releases:
                extent, version = self._releases[0]
                release = wire.RELEASE, 0, self._epoch, self._incarnation, 0, version, extent
                self._send(wire.REQUEST.pack(*release, 0, 0, 0))
                self._releases.popleft()
        except BlockingIOError:
            self._full.set()
        except OSError:
            return  # no end is open on the other side: `_receive` says so

    def _send(self, packet: bytes) -> None:
        self._socket.send(packet, _DONTWAIT)

    # -- answers -----------------------------------------------------------------------

    def reap(self) -> bool:
        """Hear what the process has said; whether there was something."""
        heard = False
        while True:
            try:
                count = self._socket.recv_into(self._answer, 0, _DONTWAIT)
            except BlockingIOError:
                return heard
            if not count:
                raise BrokenPipeError(errno.EPIPE, f"{self.name}: its tier process cannot return")
            heard = True
            if count == wire.ANSWER.size:
                self._hear(*wire.ANSWER.unpack_from(self._answer))

    def _hear(self, operation: int, code: int, epoch: int, incarnation: int, number: int) -> None:
        if operation == wire.HELLO:
            self._greet(epoch, incarnation)
        elif (operation, epoch, incarnation) == (wire.DONE, self._epoch, self._incarnation):
            self._answered_at = trio.current_time()
            if self._is_silent:
                self._is_silent = False
                log.warning("%s: its process answers again", self.name)
            for line in self._lines:
                if number in line.unfinished:
                    if line.unfinished[number].place:  # else it was never sent
                        self._end(line, line.unfinished.pop(number), code)
                    return
                if number in line.overdue:
                    line.free.append(line.overdue.pop(number))
                    self._start(line)
                    return

    def _greet(self, epoch: int, incarnation: int) -> None:
        """A process is there: it wants to know the epoch, or knows it."""
        if epoch != self._epoch:
            if incarnation != self._incarnation:
                self._incarnation = 0
                self._out.clear()
                self._begins = True
                self._flush()
            return
        if incarnation == self._incarnation:
            return
        self.processes += 1
        self._incarnation = incarnation
        self._rests_until = 0.0
        log.info("%s: tier process %x is there", self.name, incarnation)
        self._out.clear()
        for line in self._lines:
            line.free += line.overdue.values()
            line.overdue.clear()
            in_place = [one for one in line.unfinished.values() if one.place]
            self._out.extend(self._packet(line.operation, one) for one in in_place)
        for line in self._lines:
            self._start(line)
        self._flush()

    def _end(self, line: _Line, request: _Request, code: int) -> None:
        done = request.done
        found: Any = None
        if code:
            code = code if code in errno.errorcode else errno.EIO
            found = OSError(code, f"{self.name}: {os.strerror(code)}")
        elif line.operation == wire.READ:
            found = bytes(self._memory[request.place : request.place + request.length])
        line.free.append(request.place)
        self._start(line)
        done(found)

    # -- tasks -------------------------------------------------------------------------

    async def _receive(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                self.reap()
            except OSError as exc:
                # Neither a supervisor nor a process has the other end: none can come again.
                log.error("%s", exc)
                await trio.sleep_forever()

    async def _go_on_sending(self) -> None:
        while True:
            await self._full.wait()
            self._full = trio.Event()
            await trio.lowlevel.wait_writable(self._socket)
            self._flush()

    async def _watch_time(self) -> None:
        while True:
            await trio.sleep(_TICK_S)
            self._flush()  # where the kernel had no memory for a packet
            now = trio.current_time()
            for line in self._lines:
                while line.unfinished:
                    number = next(iter(line.unfinished))
                    if line.unfinished[number].began + self._patience_s(line) > now:
                        break
                    self._give_up(line, line.unfinished.pop(number))

    def _patience_s(self, line: _Line) -> float:
        if line.operation == wire.WRITE:
            return self._write_timeout_s
        return min(_PROBE_S, self._timeout_s) if self._is_silent else self._timeout_s

    def _give_up(self, line: _Line, request: _Request) -> None:
        """It is too late; the first in a line is the oldest of it."""
        if request.place:
            line.overdue[request.number] = request.place
        else:
            line.waiting.popleft()
        what = "read" if line.operation == wire.READ else "write"
        if line.operation == wire.READ and self._answered_at <= request.began:
            if not self._is_silent:
                log.error("%s: its process is silent: reads fail soon", self.name)
            self._is_silent = True
            self._rests_until = trio.current_time() + _REST_S
        request.done(OSError(errno.ETIMEDOUT, f"{self.name}: no answer to a {what}"))
