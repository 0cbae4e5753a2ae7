"""Requests for statistics and the like wait once they took their share of the time.

The clock stands still but for what a test says that a request took.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
import trio.testing

from fuseswap.filesystem.device import Device
from fuseswap.filesystem.tree import METRICS, SWAPFILE, Tree
from fuseswap.transport import share as share_module
from fuseswap.transport.devfuse import DevFuse
from fuseswap.transport.other_requests import MAX_HELD
from fuseswap.transport.pyfuse3 import TreeOperations
from fuseswap.transport.share import SHARE_PERCENT, Share
from tests.support.fuse_requests import REPLY, FakeKernel, Op, read_request, request, write_request
from tests.support.replay import Host, live

MS = 1_000_000
SAVED_UP_MS = share_module._MOST_NS // MS
COST_MS = 30


class Clock:
    """Nanoseconds, as the test says, and as trio's clock says where it ``sleeps``."""

    def __init__(self) -> None:
        self.ns = 0
        self.sleeps = False
        self.last_ns = 0  # when a text was rendered

    def __call__(self) -> int:
        return self.ns + (int(trio.current_time() * 1e9) if self.sleeps else 0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def costly(tree: Tree, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """Each text takes `COST_MS` to render."""
    render = tree.text

    def text(inode: int) -> bytes:
        clock.ns += COST_MS * MS
        clock.last_ns = clock()
        return render(inode)

    monkeypatch.setattr(tree, "text", text)
    return tree


def open_request(inode: int, unique: int = 1) -> bytes:
    return request(Op.OPEN, inode, struct.pack("<II", 0, 0), unique=unique)


def spend_all(kernel: FakeKernel) -> int:
    """How many were answered before one had to wait."""
    answered = 0
    while kernel.raw(open_request(METRICS)) is not None:
        answered += 1
    return answered


def test_what_was_saved_up_is_spent_and_then_they_wait(costly: Tree, clock: Clock) -> None:
    kernel = FakeKernel(costly, Share(clock=clock))
    assert spend_all(kernel) == -(-SAVED_UP_MS // COST_MS)
    kernel.close()


def test_a_share_of_the_time_that_passes_is_theirs(clock: Clock) -> None:
    share = Share(clock=clock)
    spent_ns = 0
    while clock.ns < 100_000 * MS:
        began_ns = clock.ns
        if share.is_spent:
            clock.ns += int(share.wait_s() * 1e9) + 1
            assert not share.is_spent
        else:
            clock.ns += COST_MS * MS
            share.spend_since(began_ns)
            spent_ns += COST_MS * MS
    bound_ns = clock.ns * SHARE_PERCENT // 100 + (SAVED_UP_MS + COST_MS) * MS
    assert bound_ns - 2 * COST_MS * MS <= spent_ns <= bound_ns


def test_what_is_not_used_is_not_saved_up_for_ever(clock: Clock) -> None:
    share = Share(clock=clock)
    clock.ns = 10**15
    assert not share.is_spent
    clock.ns += SAVED_UP_MS * MS
    share.spend_since(10**15)
    assert share.wait_s() < SAVED_UP_MS / 1000 * 100 / SHARE_PERCENT
    clock.ns += 10 * MS
    share.spend_since(10**15)
    assert share.is_spent


def test_stat_renders_nothing(costly: Tree, clock: Clock) -> None:
    kernel = FakeKernel(costly, Share(clock=clock))
    for inode in (METRICS, costly.lookup(3, "loads"), costly.lookup(4, "compressor")):
        kernel.ask(request(Op.GETATTR, inode, bytes(16)))
    assert clock.ns == 0
    kernel.close()


def test_the_swapfile_never_waits(costly: Tree, clock: Clock) -> None:
    kernel = FakeKernel(costly, Share(clock=clock))
    spend_all(kernel)
    for message in (
        write_request(0, b"x" * 4096),
        read_request(0, 4096),
        request(Op.GETATTR, SWAPFILE, bytes(16)),
        request(Op.FALLOCATE, SWAPFILE, struct.pack("<QQQII", 0, 0, 4096, 3, 0)),
    ):
        assert not kernel.ask(message).error
    kernel.close()


def test_neither_does_what_is_over_at_once(costly: Tree, clock: Clock) -> None:
    kernel = FakeKernel(costly, Share(clock=clock))
    spend_all(kernel)
    assert not kernel.ask(request(Op.RELEASE, METRICS, struct.pack("<QIIQ", 1, 0, 0, 0))).error
    kernel.close()


def test_one_too_many_is_told_to_ask_again(costly: Tree, clock: Clock) -> None:
    kernel = FakeKernel(costly, Share(clock=clock))
    spend_all(kernel)
    for _ in range(MAX_HELD - 1):
        kernel.tell(open_request(METRICS))
    assert kernel.ask(open_request(METRICS)).error == errno.EAGAIN
    assert not kernel.ask(read_request(0, 4096)).error
    kernel.close()


def test_a_message_too_long_to_be_kept_is_too(costly: Tree, clock: Clock) -> None:
    kernel = FakeKernel(costly, Share(clock=clock))
    spend_all(kernel)
    message = request(Op.LOOKUP, 1, b"x" * 10000 + b"\0")
    assert kernel.ask(message).error == errno.EAGAIN
    kernel.close()


@contextmanager
def served(tree: Tree, clock: Clock) -> Iterator[tuple[DevFuse, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.setblocking(False)
        ours.setblocking(False)
        yield DevFuse(theirs.fileno(), tree, share=Share(clock=clock)), ours


def replies(ours: socket.socket) -> list[tuple[int, int]]:
    """Unique number and error of each that has come."""
    found: list[tuple[int, int]] = []
    while True:
        try:
            _, error, unique = REPLY.unpack_from(ours.recv(1 << 20))
        except BlockingIOError:
            return found
        found.append((unique, error))


async def test_in_their_turn_they_are_answered_in_order(
    costly: Tree, clock: Clock, autojump_clock: trio.testing.MockClock
) -> None:
    clock.sleeps = True
    count = 8
    with served(costly, clock) as (transport, ours):
        for unique in range(1, count + 1):
            ours.send(open_request(METRICS, unique))
        while transport.drain():  # it ends early where the machine is slow
            pass
        at_once = replies(ours)
        assert 0 < len(at_once) < count
        began_ns = clock()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport._others.run)
            await trio.sleep(600)
            nursery.cancel_scope.cancel()
        later = replies(ours)
    assert at_once + later == [(unique, 0) for unique in range(1, count + 1)]
    cost_ns = (len(later) - 1) * COST_MS * MS
    assert clock.last_ns - began_ns >= cost_ns * 100 // SHARE_PERCENT


async def test_the_journal_has_them_until_they_are_answered(host: Host, clock: Clock) -> None:
    """Of a kernel that does not send again: the next worker answers."""
    spent = Share(clock=clock)
    clock.ns = 10**12
    spent.spend_since(0)
    _, transport = host.worker(share=spent)
    host.kernel.send(1, request(Op.STATFS, 1))
    await live(transport)
    assert host.kernel.replies() == []
    second, transport = host.worker()
    await live(transport)
    ((unique, error, body),) = host.kernel.replies()
    assert (unique, error, len(body)) == (1, 0, 80)
    assert second.device.transport.replayed_requests == 1


async def test_pyfuse3_waits_too(
    costly: Tree, clock: Clock, autojump_clock: trio.testing.MockClock
) -> None:
    operations = TreeOperations(costly, Share(clock=clock))
    answered = 0
    with trio.move_on_after(0.001):
        while True:
            await operations.open(METRICS, 0, None)
            answered += 1
    assert answered == -(-SAVED_UP_MS // COST_MS)
    assert await operations.read(0, 0, 4096) == bytes(4096)


def test_the_device_counts_them_all(costly: Tree, clock: Clock, device: Device) -> None:
    kernel = FakeKernel(costly, Share(clock=clock))
    spend_all(kernel)
    assert device.transport.failed_requests == 0
    kernel.close()
