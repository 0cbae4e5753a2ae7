"""Old kernels: a worker dies at any point, and the next one answers what it had taken.

The kernel's side is a socket pair that outlives the workers; a worker is a `DevFuse` over a
new mapping of the same memory.  It dies by an exception that nothing catches.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

import pytest

from fuseswap.filesystem.tree import param_inode
from fuseswap.store.superblock import FuseSession
from fuseswap.transport import fuse_protocol
from fuseswap.transport.devfuse import DevFuse
from fuseswap.units import PAGE_SIZE
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
from tests.support.replay import Host, live

NEW = FuseSession(7, 41, fuse_protocol.HAS_RESEND, fuse_protocol.MAX_WRITE, fuse_protocol.MAX_PAGES)
RESEND = REPLY.pack(16, 7, 0)  # FUSE_NOTIFY_RESEND


class Killed(BaseException):
    """The worker dies here."""


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
ACCEPT = param_inode("accept_threshold_percent")
REQUESTS = {
    "write": write_request(PAGE_SIZE, PAGE),
    "partial write": write_request(5 * PAGE_SIZE + 100, b"part"),
    "long write": write_request(8 * PAGE_SIZE, PAGE * 256),
    "read": read_request(5 * PAGE_SIZE, PAGE_SIZE),
    "discard": fallocate_request(3, 6 * PAGE_SIZE, PAGE_SIZE),
    "parameter": write_request(0, b"77\n", inode=ACCEPT),
    "open": request(Op.OPEN, ACCEPT, struct.pack("<II", os.O_RDONLY, 0)),
    "release": request(Op.RELEASE, ACCEPT, struct.pack("<QIIQ", 12345, 0, 0, 0)),
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
