"""The default transport: reads ``/dev/fuse`` itself, under trio.

One task, one buffer.  `drain` answers all waiting requests before it yields:

    read -> answer -> write -> read -> ...  nothing waiting: poll, then sleep

While requests keep coming, replies are gathered and written up to 16 at a time.  Only the first
wakes the caller: 0.6 us of 3.4 us of system time a request at queue depth 32.  After the last
request `drain` keeps asking for a while (``poll_window.py``): a wake-up costs more than a page.

The kernel sends again what a dead worker did not answer (Linux 6.9+); else it is in the journal
(``request_journal.py``), and replies are not gathered.  INIT settles which of the two.

READ and WRITE of the swapfile are decoded here, with one `struct` call each; all else in
``other_requests.py``.  Whatever a request holds, it gets an answer or an errno.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import struct
from time import perf_counter_ns

import trio

from fuseswap.errors import Deferred, FuseswapError, kept
from fuseswap.filesystem.discards import Discard, Unfinished
from fuseswap.filesystem.latency import QUICK_SHIFT
from fuseswap.filesystem.tree import SWAPFILE, Tree
from fuseswap.linux.run_queue import RunQueue
from fuseswap.transport import fuse_protocol
from fuseswap.transport.error_replies import failed, malformed
from fuseswap.transport.fuse_ops import Requests, Unsupported
from fuseswap.transport.other_requests import OtherRequests
from fuseswap.transport.poll_window import PollWindow
from fuseswap.transport.refused import note_refused
from fuseswap.transport.request_journal import Journal
from fuseswap.transport.share import Share

log = logging.getLogger(__name__)

# One stretch of draining before other tasks get a turn; a turn costs about 30 us.  The clock is
# looked at after every request (50 ns): one of 1 MiB takes a second in a guest without KVM.
_STRETCH_NS = 2_000_000
_BATCH = 16
_LARGE_REPLY_BYTES = 32 << 10  # not gathered: the worker's memory is locked
# Of writes that wait, and of reads; then requests stay with the kernel.  ``heap.py`` has room.
_MAX_WAITING_BYTES = 2 << 20
_READ = int(fuse_protocol.Opcode.READ)
_WRITE = int(fuse_protocol.Opcode.WRITE)
_WRITE_REPLY_BYTES = fuse_protocol.WRITE_REPLY.size
_WRITE_HEADER_BYTES = fuse_protocol.WRITE_HEADER_BYTES

_hot = fuse_protocol.HOT.unpack_from
_out = fuse_protocol.OUT_HEADER.pack
_write_reply = fuse_protocol.WRITE_REPLY.pack


class DevFuse:
    """Serves ``tree`` on the mounted, non-blocking ``/dev/fuse`` descriptor ``fd``.

    Without ``resend`` INIT settles a kernel that can't.  ``share``: of time, for `OtherRequests`.
    """

    def __init__(
        self, fd: int, tree: Tree, *, resend: bool = True, share: Share | None = None
    ) -> None:
        self._fd = fd
        self._tree = tree
        self._device = tree.device
        self._counters = tree.device.transport
        self._swapfile = tree.swapfile
        self._latency = latency = tree.device.latency  # by two looks at the clock a request
        self._loads, self._stores = latency.loads, latency.stores
        self._times = latency.uncounted  # where the request that `answer` had last is counted
        self._others = OtherRequests(Requests(tree, resend=resend).table, self._answer_held, share)
        self._own_buffer = bytearray(fuse_protocol.BUFFER_BYTES)  # resident: see `Journal.prepare`
        self._most_replies = _BATCH
        self._journal: Journal | None = None
        self._slot = 0  # of the journal, where the request that is being answered stands
        self._settled = False
        self._replaying = False
        self._look_at(self._own_buffer)
        # Unbuffered: one read(2) a call, without an iovec, and None instead of an exception.
        self._file = io.FileIO(fd, "r+", closefd=False)
        self._slowpath = tree.device.pending_io
        self._nursery: trio.Nursery  # while it serves
        self._backpressure = trio.lowlevel.ParkingLot()  # `_serve`, while too much waits
        self._window = PollWindow(RunQueue())

    async def serve(self) -> None:
        """Answer until the file system is unmounted."""
        try:
            await self._serve_all()
        finally:
            self._window.close()
            self._look_at(self._own_buffer)
            if self._journal is not None:
                self._journal.close()
                self._journal = None

    async def _serve_all(self) -> None:
        failure: OSError | None = None
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                self._resume()
                nursery.start_soon(self._others.run)
                await self._serve()
            except OSError as exc:
                failure = exc
            nursery.cancel_scope.cancel()
        if failure is not None and failure.errno != errno.ENODEV:  # ENODEV: unmounted
            raise failure

    def _resume(self) -> None:
        """Answer what a former worker took and did not answer, or have the kernel resend it.

        Every request is idempotent, so one that was carried out but not answered is safe.
        """
        journal = self._journal = Journal(self._device.state.journal)
        self._most_replies = 1
        is_first = self._device.state.session is None
        self._replay(journal)
        if self._settle(journal) and not is_first:
            os.write(self._fd, _out(16, fuse_protocol.NOTIFY_RESEND, 0))

    def _replay(self, journal: Journal) -> None:
        """Answer what is in the journal, in the order it was taken, before anything newer."""
        taken = journal.taken()
        self._replaying = True
        for slot in taken:
            self._slot = slot
            self._look_at(journal.view(slot))
            reply = self.answer(journal.length_of(slot))
            if reply is not None:  # else it waits, where it is, or is never answered
                self._reply(slot, reply)
        self._replaying = False
        self._slot = 0
        self._look_at(journal.buffer)
        journal.clear()
        self._counters.replayed_requests += len(taken)
        self._note_served(len(taken))

    def _settle(self, journal: Journal) -> bool:
        """Once INIT came: with a kernel that can resend, leave the journal.  True: it was left."""
        session = self._device.state.session
        if session is None:
            return False
        if not session.flags & fuse_protocol.HAS_RESEND:
            journal.prepare()
            self._own_buffer = bytearray()
            self._settled = True
        elif journal.is_empty:
            self._journal = None
            self._most_replies = _BATCH
            self._look_at(self._own_buffer)
            journal.leave()
            self._settled = True
        return self._settled and self._journal is None

    def _look_at(self, buffer: bytearray | memoryview) -> None:
        """Answer from ``buffer`` from now on."""
        self.buffer = buffer
        self._view = memoryview(buffer)

    # -- the loop --------------------------------------------------------------------

    async def _serve(self) -> None:
        while True:
            while self._is_crowded():
                await self._backpressure.park()
            more = self.drain()
            if not self._settled and self._journal is not None:
                self._settle(self._journal)
            if more:
                since = perf_counter_ns()
                await trio.lowlevel.checkpoint()
                self._latency.turns.add(perf_counter_ns() - since)
            else:
                self._counters.wakeups += 1
                since = perf_counter_ns()
                await trio.lowlevel.wait_readable(self._fd)
                self._window.adapt(perf_counter_ns() - since, self._device.busy_poll_us * 1000)

    def _is_crowded(self) -> bool:
        """Whether so much waits that requests stay with the kernel."""
        slow, journal = self._slowpath, self._journal
        full = max(slow.waiting_bytes, slow.reading_bytes) > _MAX_WAITING_BYTES
        return full or slow.discards.are_many or not (journal is None or journal.has_room)

    def drain(self) -> bool:  # noqa: C901  the hot path stays in one piece
        """Answer what waits.  True: there may be more, come back; False: nothing, sleep.

        Raises `OSError` (ENODEV) once unmounted.
        """
        readinto, buffer, answer = self._file.readinto, self.buffer, self.answer
        io, pending_io, window = self._device.engine, self._slowpath, self._window
        now = before = perf_counter_ns()
        stretch_end = now + _STRETCH_NS
        poll_end = served = 0
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
                    poll_end, before = 0, perf_counter_ns()
                    continue
                now = perf_counter_ns()
                if not poll_end:
                    self._note_served(served)
                    if served and now > stretch_end:  # requests trickle in: others want a turn
                        return True
                    served = 0
                    poll_end = window.begin(now)
                if now >= poll_end or pending_io.wants_a_turn:
                    return False
                os.sched_yield()  # to the kernel's threads that carry our replies on
                before = perf_counter_ns()
                poll_end = window.after_yield(poll_end, now, before)
                continue
            poll_end = 0
            reply = answer(length)
            served += 1
            if reply is not None:
                replies.append(reply)
                if len(replies) >= batch or len(reply) > _LARGE_REPLY_BYTES:
                    self._send(replies)
                    batch = min(2 * batch, self._most_replies)
            now = perf_counter_ns()
            try:
                self._times[now - before >> QUICK_SHIFT] += 1
            except IndexError:
                self._latency.add_long(self._times, now - before)
            before = now
            if now > stretch_end or (reply is None and self._is_crowded()):
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
                note_refused(exc, fd, reply, self._counters)
        replies.clear()
        if self._journal is not None:
            self._journal.clear()

    def _note_served(self, served: int) -> None:
        self._counters.requests += served
        self._device.state.note_progress(self._counters.requests)

    def answer(self, length: int) -> bytes | None:  # noqa: C901  one except a kind of error
        """The reply to the request in the first ``length`` bytes of `buffer`, None for none."""
        opcode = unique = inode = offset = count = 0
        try:
            size, opcode, unique, inode, offset, count = _hot(self.buffer)
            if size != length or length < fuse_protocol.IN_HEADER_BYTES:
                raise struct.error
            if inode == SWAPFILE:
                if opcode == _READ and length >= fuse_protocol.WRITE_HEADER_BYTES:
                    if count > fuse_protocol.MAX_WRITE:
                        raise struct.error
                    self._times = self._loads
                    found = self._swapfile.read(offset, count)
                    return _out(16 + len(found), 0, unique) + found
                if opcode == _WRITE:
                    if _WRITE_HEADER_BYTES + count != length:
                        raise struct.error
                    self._times = self._stores
                    if self._slowpath.has_to_wait(offset, count):
                        self._delay(opcode, unique, offset, count, None)
                        return None
                    data = self._view[_WRITE_HEADER_BYTES:length]
                    count = self._swapfile.write(offset, data)
                    return _write_reply(_WRITE_REPLY_BYTES, 0, unique, count, 0)
            return self._other(length, opcode, unique, inode)
        except Deferred as exc:
            self._delay(opcode, unique, offset, count, exc)
            return None
        except Unsupported as exc:
            return _out(16, -exc.code, unique)
        except FuseswapError as exc:
            return failed(self._counters, unique, exc)
        except struct.error:
            self._times = self._latency.uncounted
            return malformed(self._counters, self._view[:length], unique)
        except Exception as exc:
            self._die_of(exc, unique, inode)
            return failed(self._counters, unique, exc)

    def _other(self, length: int, opcode: int, unique: int, inode: int) -> bytes | None:
        others = self._others
        self._times = self._latency.uncounted
        if not self._replaying and others.has_to_wait(opcode, inode, length):
            others.hold(*self._keep(), length)
            return None
        body = others.answer(opcode, inode, self._view[:length])
        return None if body is None else _out(16 + len(body), 0, unique) + body

    def _answer_held(self, slot: int, message: bytearray) -> None:
        """Its turn has come: as `answer`, from a copy."""
        before = self.buffer
        self._look_at(message)
        reply = self.answer(int.from_bytes(message[:4], "little"))
        self._look_at(before)
        if reply is not None:
            self._reply(slot, reply)

    def _keep(self) -> tuple[int, memoryview]:
        """The request is answered later: its slot of the journal, 0 without one, and its bytes."""
        if (journal := self._journal) is None:
            return self._slot, self._view
        slot = self._slot or journal.take()
        return slot, journal.view(slot)

    def _delay(
        self, opcode: int, unique: int, offset: int, count: int, tried: Deferred | None
    ) -> None:
        """Answer later, since this one must wait: ``tried``.  Copies what is written."""
        slow, latency = self._slowpath, self._latency
        self._times = latency.uncounted
        began = perf_counter_ns()
        slot, view = (self._slot, self._view) if self._journal is None else self._keep()
        if opcode == _READ:
            loads = latency.of_load(tried)

            def read_ended(found: bytes | Exception) -> None:
                if isinstance(found, Exception):
                    self._reply(slot, self._failed_later(unique, found))
                else:
                    self._reply(slot, _out(16 + len(found), 0, unique) + found)
                loads.add(perf_counter_ns() - began)

            slow.begin_read(offset, count, read_ended, tried and kept(tried))
        elif opcode == _WRITE:

            def write_ended(error: Exception | None) -> None:
                done = _write_reply(_WRITE_REPLY_BYTES, 0, unique, count, 0)
                self._reply(slot, self._failed_later(unique, error) if error else done)
                latency.waited.add(perf_counter_ns() - began)

            count = self._swapfile.fitting(offset, count)
            data = view[_WRITE_HEADER_BYTES : _WRITE_HEADER_BYTES + count]
            slow.begin_write(offset, data if slot else memoryview(bytes(data)), write_ended, tried)
        else:
            assert isinstance(tried, Unfinished)
            self._nursery.start_soon(self._discard, unique, slot, tried.discard)

    async def _discard(self, unique: int, slot: int, rest: Discard) -> None:
        reply = _out(16, 0, unique)
        try:
            await self._slowpath.discards.go_on(rest)
        except Exception as exc:
            reply = self._failed_later(unique, exc)
        self._reply(slot, reply)

    def _reply(self, slot: int, reply: bytes) -> None:
        """Write one answer that had to wait, and free ``slot``; no newer request comes between."""
        try:
            os.write(self._fd, reply)
        except OSError as exc:
            with contextlib.suppress(OSError):  # ENODEV, unmounted: the next read says so too
                note_refused(exc, self._fd, reply, self._counters)
        if slot and self._journal is not None:
            self._journal.free(slot)
        self._backpressure.unpark_all()

    def _die_of(self, exc: Exception, unique: int, inode: int = SWAPFILE) -> None:
        """Raise an unforeseen error: the next worker builds derived data anew.

        Not in that next try: the request alone pays, with EIO.  Nor for a text file or the first.
        """
        if isinstance(exc, FuseswapError | OSError) or not self._settled or inode != SWAPFILE:
            return
        if not unique & fuse_protocol.UNIQUE_RESEND and not self._replaying:
            log.error("unexpected error in request %#x: another worker shall try", unique)
            raise exc

    def _failed_later(self, unique: int, exc: Exception) -> bytes:
        self._die_of(exc, unique)
        return failed(self._counters, unique, exc)
