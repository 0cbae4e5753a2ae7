"""The default transport: reads ``/dev/fuse`` itself, under trio.

One task, one buffer.  `drain` answers all waiting requests before it yields:

    read -> answer -> write -> read -> ...  nothing waiting: poll, then sleep

While requests keep coming, replies are gathered and written up to 16 at a time: the first
wakes the caller, the others find it awake (0.6 us of 3.4 us of system time a request at
queue depth 32).  A single request is always answered at once.

Waking a sleeping process costs more than compressing a page, so after the last
request `drain` keeps asking for up to ``busy_poll_us``.  The window adapts as
KVM's halt polling does (virt/kvm/kvm_main.c): it doubles while requests arrive
shortly after the transport went to sleep, and halves to nothing while they do
not, so an idle device never polls.

READ and WRITE of the swapfile are decoded here, with one `struct` call each;
everything else is in ``requests.py``.  Whatever a request holds, it gets an
answer or an errno: no input ends the task.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import struct
from time import perf_counter_ns

import trio

from fuseswap.errors import FuseswapError, MustWait
from fuseswap.transport import wire
from fuseswap.transport.errnos import errno_of
from fuseswap.transport.requests import Requests, Unsupported
from fuseswap.tree import SWAPFILE, Tree

log = logging.getLogger(__name__)

# One stretch of draining before other tasks get a turn; a turn costs about 30 us.
_STRETCH_NS = 2_000_000
_FIRST_WINDOW_NS = 10_000
_BATCH = 16
_LARGE_REPLY_BYTES = 32 << 10  # not gathered: the worker's memory is locked
# Copies of writes that wait for room; beyond this, requests stay with the kernel.
_MAX_WAITING_BYTES = 16 << 20

_READ = int(wire.Opcode.READ)
_WRITE = int(wire.Opcode.WRITE)
_SILENT = frozenset({wire.Opcode.FORGET, wire.Opcode.BATCH_FORGET, wire.Opcode.INTERRUPT})
_WRITE_REPLY_BYTES = wire.WRITE_REPLY.size

_hot = wire.HOT.unpack_from
_out = wire.OUT_HEADER.pack
_write_reply = wire.WRITE_REPLY.pack


class DevFuse:
    """Serves ``tree`` on the mounted, non-blocking ``/dev/fuse`` descriptor ``fd``."""

    def __init__(self, fd: int, tree: Tree) -> None:
        self._fd = fd
        self._tree = tree
        self._device = tree.device
        self._counters = tree.device.transport
        self._swapfile = tree.swapfile
        self._requests = Requests(tree)
        self.buffer = bytearray(wire.BUFFER_BYTES)
        self._view = memoryview(self.buffer)
        # Unbuffered: one read(2) a call, without an iovec, and None instead of an exception.
        self._file = io.FileIO(fd, "r+", closefd=False)
        self._slowpath = tree.device.slowpath
        self._nursery: trio.Nursery | None = None
        self._window_ns = 0

    async def serve(self) -> None:
        """Answer until the file system is unmounted."""
        self._ask_for_resend()
        failure: OSError | None = None
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await self._serve()
            except OSError as exc:
                failure = exc
            nursery.cancel_scope.cancel()
        if failure is not None and failure.errno != errno.ENODEV:  # ENODEV: unmounted
            raise failure

    def _ask_for_resend(self) -> None:
        """Have the kernel send again what a former worker took and did not answer.

        Every request is idempotent, so one that was carried out but not answered is safe.
        """
        session = self._device.state.session
        if session is None:  # the first worker of this mount
            return
        if not session.flags & wire.HAS_RESEND:
            log.error("this kernel can't resend; requests in flight hang (Linux 6.9+ can)")
            return
        os.write(self._fd, _out(16, wire.NOTIFY_RESEND, 0))

    async def _serve(self) -> None:
        while True:
            if self.drain():
                await trio.lowlevel.checkpoint()
            else:
                self._counters.wakeups += 1
                slept_from = perf_counter_ns()
                await trio.lowlevel.wait_readable(self._fd)
                self._adapt(perf_counter_ns() - slept_from)
            while self._slowpath.waiting_bytes > _MAX_WAITING_BYTES:
                await self._slowpath.wait_for_a_write()

    def drain(self) -> bool:
        """Answer what waits.  True: there may be more, come back; False: nothing, sleep.

        Raises `OSError` (ENODEV) once unmounted.
        """
        readinto, buffer, answer = self._file.readinto, self.buffer, self.answer
        io, slowpath = self._device.engine, self._slowpath
        now = perf_counter_ns()
        stretch_end = now + _STRETCH_NS
        poll_end = 0
        served = 0
        replies: list[bytes] = []
        batch = 1
        while True:
            try:
                length = readinto(buffer)
            except OSError as exc:
                if exc.errno in (errno.ENOENT, errno.EINTR):  # the request went away
                    continue
                raise
            if length is None:
                batch = 1
                if replies:
                    self._send(replies)
                    continue
                if io is not None and io.in_flight and io.reap():
                    poll_end = 0
                    continue
                now = perf_counter_ns()
                if not poll_end:
                    self._note_served(served)
                    served = 0
                    poll_end = now + self._window_ns
                if now >= poll_end or slowpath.waiting_bytes:
                    return False
                os.sched_yield()  # to the kernel's threads that carry our replies on
                continue
            poll_end = 0
            reply = answer(length)
            served += 1
            if reply is not None:
                replies.append(reply)
                if len(replies) >= batch or len(reply) > _LARGE_REPLY_BYTES:
                    self._send(replies)
                    batch = min(2 * batch, _BATCH)
            if not served & 63 and perf_counter_ns() > stretch_end:
                self._send(replies)
                self._note_served(served)
                return True

    def _send(self, replies: list[bytes]) -> None:
        """Write out and forget ``replies``."""
        write, fd = os.write, self._fd
        for reply in replies:
            try:
                write(fd, reply)
            except OSError as exc:
                self._complain(exc)
        replies.clear()

    def _note_served(self, served: int) -> None:
        counters = self._counters
        counters.requests += served
        self._device.state.note_progress(counters.requests)

    def answer(self, length: int) -> bytes | None:
        """The reply to the request in the first ``length`` bytes of `buffer`, None for none."""
        opcode = unique = offset = count = 0
        try:
            size, opcode, unique, inode, offset, count = _hot(self.buffer)
            if size != length or length < wire.IN_HEADER_BYTES:
                return self._malformed(length, unique)
            if inode == SWAPFILE:
                if opcode == _READ and length >= wire.WRITE_HEADER_BYTES:
                    if count > wire.MAX_WRITE:
                        return self._malformed(length, unique)
                    data = self._swapfile.read(offset, count)
                    return _out(16 + len(data), 0, unique) + data
                if opcode == _WRITE:
                    end = wire.WRITE_HEADER_BYTES + count
                    if end != length:
                        return self._malformed(length, unique)
                    if self._slowpath.has_queue:
                        self._delay(opcode, unique, offset, count)
                        return None
                    self._swapfile.write(offset, self._view[wire.WRITE_HEADER_BYTES : end])
                    return _write_reply(_WRITE_REPLY_BYTES, 0, unique, count, 0)
            return self._other(length, opcode, unique, inode)
        except MustWait:
            self._delay(opcode, unique, offset, count)
            return None
        except FuseswapError as exc:
            return self._failed(unique, errno_of(exc))
        except struct.error:
            return self._malformed(length, unique)
        except Exception as exc:  # whatever it was, this request alone pays for it
            return self._failed(unique, errno_of(exc))

    def _other(self, length: int, opcode: int, unique: int, inode: int) -> bytes | None:
        method = self._requests.table.get(opcode)
        if method is None:
            return _out(16, -errno.ENOSYS, unique)
        try:
            body = method(inode, self._view[wire.IN_HEADER_BYTES : length])
        except Unsupported as exc:
            return _out(16, -exc.code, unique)
        if body is None:
            return None
        return _out(16 + len(body), 0, unique) + body

    def _delay(self, opcode: int, unique: int, offset: int, count: int) -> None:
        """Answer later, since this one must wait.  Copies what is written."""
        slow = self._slowpath
        if opcode == _READ:

            def read_ended(found: bytes | Exception) -> None:
                if isinstance(found, Exception):
                    self._reply(self._failed(unique, errno_of(found)))
                else:
                    self._reply(_out(16 + len(found), 0, unique) + found)

            slow.begin_read(offset, count, read_ended)
        elif opcode == _WRITE:

            def write_ended(error: Exception | None) -> None:
                if error is not None:
                    self._reply(self._failed(unique, errno_of(error)))
                else:
                    self._reply(_write_reply(_WRITE_REPLY_BYTES, 0, unique, count, 0))

            end = wire.WRITE_HEADER_BYTES + count
            data = memoryview(bytes(self._view[wire.WRITE_HEADER_BYTES : end]))
            slow.begin_write(offset, data, write_ended)
        else:
            body = self._view[wire.IN_HEADER_BYTES :]
            _, offset, length, _, _ = wire.FALLOCATE_IN.unpack_from(body)
            assert self._nursery is not None
            self._nursery.start_soon(self._punch, unique, offset, length)

    async def _punch(self, unique: int, offset: int, length: int) -> None:
        try:
            await self._slowpath.punch(offset, length)
        except Exception as exc:
            self._reply(self._failed(unique, errno_of(exc)))
        else:
            self._reply(_out(16, 0, unique))

    def _reply(self, reply: bytes) -> None:
        """Write one answer that had to wait."""
        try:
            os.write(self._fd, reply)
        except OSError as exc:
            if exc.errno != errno.ENODEV:  # unmounted: the next read says so too
                self._complain(exc)

    def _failed(self, unique: int, code: int) -> bytes:
        if code != errno.ENOENT:
            self._counters.failed_requests += 1
        return _out(16, -code, unique)

    def _malformed(self, length: int, unique: int) -> bytes | None:
        """EINVAL, where there is a request to answer; FORGET and its like get no answer."""
        self._counters.malformed_requests += 1
        if length < wire.IN_HEADER_BYTES or self._opcode() in _SILENT:
            return None
        return _out(16, -errno.EINVAL, unique)

    def _opcode(self) -> int:
        return int.from_bytes(self._view[4:8], "little")

    def _adapt(self, slept_ns: int) -> None:
        """Set the polling window from how long the last sleep was."""
        most = self._device.busy_poll_us * 1000
        if slept_ns <= most:
            self._window_ns = min(max(2 * self._window_ns, _FIRST_WINDOW_NS), most)
        else:
            self._window_ns = min(self._window_ns // 2, most) if self._window_ns > 1000 else 0

    def _complain(self, exc: OSError) -> None:
        if exc.errno == errno.ENOENT:  # its caller was killed
            return
        if exc.errno == errno.ENODEV:
            raise exc
        log.error("the kernel refused a reply: %s", exc)
