"""Old kernels: a worker dies at any point, and the next one answers what it had taken.

The kernel's side is a socket pair that outlives the workers; a worker is a `DevFuse` over a
new mapping of the same memory.  It dies by an exception that nothing catches.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fuseswap.filesystem.parameters import PARAMETERS
from fuseswap.filesystem.tree import Tree
from fuseswap.store.superblock import FuseSession
from fuseswap.transport import fuse_protocol
from fuseswap.transport.devfuse import DevFuse
from fuseswap.transport.request_journal import LARGE_SLOTS, Journal
from fuseswap.units import MIB, PAGE_SIZE
from tests.support import pages
from tests.support.fake_tier import FakeTier
from tests.support.fuse_requests import (
    REPLY,
    SWAPFILE,
    Op,
    fallocate_request,
    init_request,
    read_request,
    request,
    write_request,
)
from tests.support.memory_stores import SharedMemory
from tests.support.tiered_devices import EXTENTS, TIERED, Tiered

_PARAM_BASE = 0x2000
OLD = FuseSession(
    7, 38, fuse_protocol.MAX_PAGES_FLAG, fuse_protocol.MAX_WRITE, fuse_protocol.MAX_PAGES
)
NEW = FuseSession(7, 41, fuse_protocol.HAS_RESEND, fuse_protocol.MAX_WRITE, fuse_protocol.MAX_PAGES)
RESEND = REPLY.pack(16, 7, 0)  # FUSE_NOTIFY_RESEND


class Killed(BaseException):
    """The worker dies here."""


class Kernel:
    """One message a read and a write, as /dev/fuse has it."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.setblocking(False)
        self.theirs.setblocking(False)
        for end in (self.ours, self.theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MIB)

    def send(self, unique: int, message: bytes) -> None:
        self.ours.send(message[:8] + struct.pack("<Q", unique) + message[16:])

    def raw(self) -> Iterator[bytes]:
        while True:
            try:
                yield self.ours.recv(2 * MIB)
            except BlockingIOError:
                return

    def replies(self) -> list[tuple[int, int, bytes]]:
        """``(unique, errno, body)`` of each reply that has come."""
        found = []
        for reply in self.raw():
            length, error, unique = REPLY.unpack_from(reply)
            assert length == len(reply)
            found.append((unique, -error, reply[REPLY.size :]))
        return found

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


class Host:
    """What outlives a worker: the memory, the tier, the connection."""

    def __init__(self) -> None:
        self.memory = SharedMemory(TIERED)
        self.tier = FakeTier(EXTENTS)
        self.kernel = Kernel()
        self.memory.attach().session = OLD

    def worker(self, *, resend: bool = True) -> tuple[Tiered, DevFuse]:
        """The next one."""
        tiered = Tiered(self.memory, self.tier)
        fd = self.kernel.theirs.fileno()
        return tiered, DevFuse(fd, Tree(tiered.device), resend=resend)

    def close(self) -> None:
        self.kernel.close()
        self.memory.close()


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    yield made
    made.close()


async def live(transport: DevFuse) -> None:
    """Serve until all that came is answered or waits; then the worker is gone."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.serve)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def die(transport: DevFuse) -> None:
    """Serve until killed."""
    died = False
    try:
        await transport.serve()
    except* Killed:
        died = True
    assert died


# -- killed with one request in hand ----------------------------------------------------

PAGE = bytes(range(256)) * 16
ACCEPT = next(i for i, p in enumerate(PARAMETERS) if p.name == "accept_threshold_percent")
REQUESTS = {
    "write": write_request(PAGE_SIZE, PAGE),
    "partial write": write_request(5 * PAGE_SIZE + 100, b"part"),
    "long write": write_request(8 * PAGE_SIZE, PAGE * 256),
    "read": read_request(5 * PAGE_SIZE, PAGE_SIZE),
    "discard": fallocate_request(3, 6 * PAGE_SIZE, PAGE_SIZE),
    "parameter": write_request(0, b"77\n", inode=_PARAM_BASE + ACCEPT),
    "open": request(Op.OPEN, _PARAM_BASE, struct.pack("<II", os.O_RDONLY, 0)),
    "release": request(Op.RELEASE, _PARAM_BASE, struct.pack("<QIIQ", 12345, 0, 0, 0)),
    "lookup": request(Op.LOOKUP, 1, b"swapfile\0"),
    "flush": request(Op.FLUSH, SWAPFILE, bytes(24)),
    "statfs": request(Op.STATFS, 1),
}


def expect(name: str) -> dict[int, bytes]:
    """Pages after the request ``name`` on pages 5 and 6."""
    found = {5: PAGE, 6: PAGE}
    if name == "write":
        found[1] = PAGE
    if name == "partial write":
        found[5] = PAGE[:100] + b"part" + PAGE[104:]
    if name == "long write":
        found |= dict.fromkeys(range(8, 264), PAGE)
    if name == "discard":
        del found[6]
    return found


def at_the_start(transport: DevFuse, patch: pytest.MonkeyPatch) -> None:
    def answer(length: int) -> bytes | None:
        raise Killed

    patch.setattr(transport, "answer", answer)


def before_the_reply(transport: DevFuse, patch: pytest.MonkeyPatch) -> None:
    def write(fd: int, data: bytes) -> int:
        raise Killed

    patch.setattr("fuseswap.transport.devfuse.os.write", write)


def after_the_reply(transport: DevFuse, patch: pytest.MonkeyPatch) -> None:
    real = os.write

    def write(fd: int, data: bytes) -> int:
        real(fd, data)
        raise Killed

    patch.setattr("fuseswap.transport.devfuse.os.write", write)


Death = Callable[[DevFuse, pytest.MonkeyPatch], None]
DEATHS: list[tuple[Death, int]] = [(at_the_start, 1), (before_the_reply, 1), (after_the_reply, 2)]
each_death = pytest.mark.parametrize(("death", "answers"), DEATHS)


@each_death
@pytest.mark.parametrize("name", REQUESTS)
async def test_the_next_worker_answers(
    host: Host, monkeypatch: pytest.MonkeyPatch, name: str, death: Death, answers: int
) -> None:
    first, transport = host.worker()
    first.store(5, PAGE)
    first.store(6, PAGE)
    host.kernel.send(11, REQUESTS[name])
    with monkeypatch.context() as patch:
        death(transport, patch)
        await die(transport)
    second, transport = host.worker()
    second.expected = expect(name)
    await live(transport)
    replies = host.kernel.replies()
    assert [reply[:2] for reply in replies] == [(11, 0)] * answers
    assert second.device.transport.replayed_requests == 1
    if name == "read":
        assert replies[-1][2] == PAGE
    if name == "parameter":
        assert second.writeback.accept_threshold_percent == 77
    await second.check()
    third, transport = host.worker()
    await live(transport)
    assert host.kernel.replies() == []
    assert third.device.transport.replayed_requests == 0


def forget_session(host: Host) -> None:
    """As before INIT: zeros, with their check, in both copies."""
    for copy in (0, 4096):
        host.memory.regions()["header"].buffer[copy + 256 : copy + 284] = bytes(28)


@each_death
async def test_init_too(
    host: Host, monkeypatch: pytest.MonkeyPatch, death: Death, answers: int
) -> None:
    """It comes once a mount, and nothing is settled before it."""
    forget_session(host)
    first, transport = host.worker()
    assert first.device.state.session is None
    host.kernel.send(1, init_request(flags2=0xFFFFFFFF))
    with monkeypatch.context() as patch:
        death(transport, patch)
        await die(transport)
    second, transport = host.worker()
    await live(transport)
    replies = [reply for reply in host.kernel.raw() if reply != RESEND]
    assert [REPLY.unpack_from(reply)[1:] for reply in replies] == [(0, 1)] * answers
    assert second.device.state.session is not None
    assert second.device.state.session.flags & fuse_protocol.HAS_RESEND


@pytest.mark.parametrize("opcode", [Op.FORGET, Op.INTERRUPT, Op.BATCH_FORGET])
async def test_what_has_no_answer_gets_none(
    host: Host, monkeypatch: pytest.MonkeyPatch, opcode: Op
) -> None:
    _, transport = host.worker()
    host.kernel.send(11, request(opcode, SWAPFILE, bytes(16)))
    with monkeypatch.context() as patch:
        at_the_start(transport, patch)
        await die(transport)
    _, transport = host.worker()
    host.kernel.send(12, read_request(0, PAGE_SIZE))
    await live(transport)
    assert [reply[0] for reply in host.kernel.replies()] == [12]


async def test_what_was_answered_is_not_replayed(host: Host) -> None:
    _, transport = host.worker()
    host.kernel.send(1, REQUESTS["write"])
    host.kernel.send(2, REQUESTS["parameter"])
    await live(transport)
    assert len(host.kernel.replies()) == 2
    second, transport = host.worker()
    await live(transport)
    assert host.kernel.replies() == []
    assert second.device.transport.replayed_requests == 0


# -- killed with requests that wait ------------------------------------------------------


async def test_reads_of_the_tier_are_answered_by_the_next(host: Host) -> None:
    first, transport = host.worker()
    asked = (await first.move_out())[:3]
    host.tier.hold_reads = True
    for unique, page in enumerate(asked, start=1):
        host.kernel.send(unique, read_request(page * PAGE_SIZE, PAGE_SIZE))
    await live(transport)
    assert host.kernel.replies() == []
    host.tier.hold_reads = False
    second, transport = host.worker()
    await live(transport)
    answers = {unique: body for unique, _, body in host.kernel.replies()}
    assert answers == {i: first.expected[page] for i, page in enumerate(asked, start=1)}
    assert second.device.transport.replayed_requests == 3


async def test_killed_again_and_again_they_wait_still(host: Host) -> None:
    first, transport = host.worker()
    page = (await first.move_out())[0]
    host.tier.hold_reads = True
    host.kernel.send(1, read_request(page * PAGE_SIZE, PAGE_SIZE))
    for _ in range(4):
        await live(transport)
        _, transport = host.worker()
    host.tier.hold_reads = False
    await live(transport)
    assert host.kernel.replies() == [(1, 0, first.expected[page])]


async def test_a_discard_with_an_edge_on_the_tier(host: Host) -> None:
    first, transport = host.worker()
    page = (await first.move_out())[0]
    host.tier.hold_reads = True
    host.kernel.send(1, fallocate_request(3, page * PAGE_SIZE + 96, 4000))
    await live(transport)
    assert host.kernel.replies() == []
    host.tier.hold_reads = False
    second, transport = host.worker()
    await live(transport)
    assert host.kernel.replies() == [(1, 0, b"")]
    second.expected = first.expected
    second.expected[page] = second.expected[page][:96] + bytes(4000)
    await second.check()


def full(host: Host) -> tuple[Tiered, DevFuse]:
    """A worker whose pool is full, and whose tier takes nothing for now."""
    tiered, transport = host.worker()
    tiered.fill()
    host.tier.hold_writes = True
    return tiered, transport


async def live_with_writeback(tiered: Tiered, transport: DevFuse) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tiered.writeback.run)
        nursery.start_soon(transport.serve)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_writes_that_wait_for_room_are_stored_by_the_next(host: Host) -> None:
    first, transport = full(host)
    new = {page: pages.nearly_incompressible(page + 9000, 3900) for page in range(3000, 3040)}
    for page, data in new.items():
        host.kernel.send(page, write_request(page * PAGE_SIZE, data))
    await live_with_writeback(first, transport)
    assert host.kernel.replies() == []
    host.tier.hold_writes = False
    second, transport = host.worker()
    second.expected = {**first.expected, **new}
    await live_with_writeback(second, transport)
    assert sorted(host.kernel.replies()) == [
        (page, 0, struct.pack("<II", PAGE_SIZE, 0)) for page in sorted(new)
    ]
    assert second.device.transport.replayed_requests == len(new)
    await second.check()


async def test_what_is_replayed_comes_before_what_is_new(host: Host) -> None:
    """The kernel has an answer to the first write of a page before it sends the next."""
    first, transport = full(host)
    old, new = (pages.nearly_incompressible(seed, 3900) for seed in (9001, 9002))
    host.kernel.send(1, write_request(3000 * PAGE_SIZE, old))
    await live_with_writeback(first, transport)
    host.tier.hold_writes = False
    second, transport = host.worker()
    seen: list[int] = []
    real = transport.answer

    def answer(length: int) -> bytes | None:
        seen.append(struct.unpack_from("<Q", transport.buffer, 8)[0])
        return real(length)

    transport.answer = answer  # type: ignore[method-assign]
    host.kernel.send(2, write_request(3000 * PAGE_SIZE, new))
    await live_with_writeback(second, transport)
    assert seen == [1, 2]
    assert [reply[:2] for reply in host.kernel.replies()] == [(1, 0), (2, 0)]
    assert await second.read(3000) == new


async def test_killed_after_the_answer_to_one_that_waited(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, transport = host.worker()
    page = (await first.move_out())[0]
    host.kernel.send(1, read_request(page * PAGE_SIZE, PAGE_SIZE))
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "free", lambda journal, slot: None)
        await live(transport)
    _, transport = host.worker()
    await live(transport)
    assert host.kernel.replies() == [(1, 0, first.expected[page])] * 2


async def test_nothing_is_read_that_could_not_wait(host: Host) -> None:
    first, transport = host.worker()
    page = (await first.move_out())[0]
    host.tier.hold_reads = True
    slots = 320 - LARGE_SLOTS
    for unique in range(1, slots + 41):
        host.kernel.send(unique, read_request(page * PAGE_SIZE, PAGE_SIZE))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.serve)
        await wait_all_tasks_blocked()
        assert len(host.tier.reads) == slots
        host.tier.reads[0].finish()
        await wait_all_tasks_blocked()
        assert len(host.tier.reads) == slots, "one was answered, one more was taken"
        assert len(host.kernel.replies()) == 1
        host.tier.hold_reads = False
        for operation in list(host.tier.reads):
            operation.finish()
        await wait_all_tasks_blocked()
        assert len(host.kernel.replies()) == slots + 39
        nursery.cancel_scope.cancel()


async def test_replies_are_not_gathered(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second request is not read before the first is answered."""
    _, transport = host.worker()
    for unique in range(1, 5):
        host.kernel.send(unique, read_request(0, PAGE_SIZE))
    written: list[int] = []
    real = os.write

    def write(fd: int, data: bytes) -> int:
        written.append(len(transport._journal.taken()))  # type: ignore[union-attr]
        return real(fd, data)

    with monkeypatch.context() as patch:
        patch.setattr("fuseswap.transport.devfuse.os.write", write)
        await live(transport)
    assert [reply[0] for reply in host.kernel.replies()] == [1, 2, 3, 4]
    assert written == [1, 1, 1, 1]


# -- which of the two --------------------------------------------------------------------


async def test_where_the_kernel_resends_there_is_no_journal(host: Host) -> None:
    host.memory.attach().session = NEW
    worker, transport = host.worker()
    host.kernel.send(1, read_request(0, PAGE_SIZE))
    await live(transport)
    assert [reply == RESEND for reply in host.kernel.raw()] == [True, False]
    assert worker.device.statistics()["journal_bytes"] == 0


async def test_it_is_asked_for_nothing_where_it_cannot(host: Host) -> None:
    worker, transport = host.worker()
    await live(transport)
    assert list(host.kernel.raw()) == []
    assert worker.device.statistics()["journal_bytes"] >= fuse_protocol.BUFFER_BYTES


@pytest.mark.parametrize("resend", [True, False])
async def test_init_settles_it(host: Host, resend: bool) -> None:
    """Also in the first worker, which asks for nothing."""
    forget_session(host)
    worker, transport = host.worker(resend=resend)
    host.kernel.send(1, init_request(flags2=0xFFFFFFFF))
    host.kernel.send(2, read_request(0, PAGE_SIZE))
    await live(transport)
    replies = host.kernel.replies()
    assert [reply[:2] for reply in replies] == [(1, 0), (2, 0)]
    session = worker.device.state.session
    assert session is not None
    assert bool(session.flags & fuse_protocol.HAS_RESEND) is resend
    assert bool(worker.device.statistics()["journal_bytes"]) is not resend
