"""A worker dies with requests in hand that wait: the next one answers them."""

from __future__ import annotations

import os
import struct

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fuseswap.transport.devfuse import DevFuse
from fuseswap.transport.request_journal import LARGE_SLOTS, Journal
from fuseswap.units import PAGE_SIZE
from tests.support import pages
from tests.support.fuse_requests import fallocate_request, read_request, write_request
from tests.support.replay import Host, live
from tests.support.tiered_devices import Tiered


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
