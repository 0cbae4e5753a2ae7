"""A discard of many pages goes on in steps: others are served, and nothing newer is dropped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fuseswap.frontswap.invalidation import STEP_PAGES
from fuseswap.transport.devfuse import DevFuse
from fuseswap.units import PAGE_SIZE
from tests.support import pages
from tests.support.fuse_requests import fallocate_request, read_request, write_request
from tests.support.replay import Host, live
from tests.support.tiered_devices import TIERED, Tiered

PAGES = TIERED.page_count
OLD, NEW = pages.filled(1), pages.filled(2)
EVERYTHING = fallocate_request(3, 0, PAGES * PAGE_SIZE)


def stored(host: Host) -> tuple[Tiered, DevFuse]:
    """A worker with every page of the file."""
    worker, transport = host.worker()
    for page in range(PAGES):
        worker.store(page, OLD)
    return worker, transport


def read_page(page: int) -> bytes:
    return read_request(page * PAGE_SIZE, PAGE_SIZE)


def write_page(page: int) -> bytes:
    return write_request(page * PAGE_SIZE, NEW)


def forgotten(worker: Tiered) -> int:
    return worker.device.frontswap.counters.invalidates


@asynccontextmanager
async def in_the_middle(host: Host) -> AsyncIterator[Tiered]:
    """Of a discard of everything, which is request 1; the worker is gone at the end."""
    worker, transport = stored(host)
    host.kernel.send(1, EVERYTHING)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.serve)
        while not forgotten(worker):
            await trio.lowlevel.checkpoint()
        assert forgotten(worker) < PAGES
        yield worker
        nursery.cancel_scope.cancel()


async def until(host: Host, unique: int) -> list[tuple[int, int, bytes]]:
    """Replies up to that of ``unique``."""
    found: list[tuple[int, int, bytes]] = []
    while unique not in {one[0] for one in found}:
        await trio.lowlevel.checkpoint()
        found += host.kernel.replies()
    return found


async def test_no_turn_does_more_than_a_step(host: Host) -> None:
    worker, transport = stored(host)
    host.kernel.send(1, EVERYTHING)
    most = before = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.serve)
        while before < PAGES:
            await trio.lowlevel.checkpoint()
            now = forgotten(worker)
            most, before = max(most, now - before), now
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert [reply[:2] for reply in host.kernel.replies()] == [(1, 0)]
    assert most <= 2 * STEP_PAGES, "between two turns of one task another may have two"
    worker.expected.clear()
    await worker.check()


async def test_a_cluster_of_swap_takes_one_step(host: Host) -> None:
    worker, transport = stored(host)
    host.kernel.send(1, fallocate_request(3, 512 * PAGE_SIZE, 512 * PAGE_SIZE))
    host.kernel.send(2, read_page(0))
    worker.device.frontswap.invalidation.step_ns = 1 << 62
    await live(transport)
    assert [reply[:2] for reply in host.kernel.replies()] == [(1, 0), (2, 0)]


async def test_others_are_answered_between_steps(host: Host) -> None:
    async with in_the_middle(host):
        host.kernel.send(2, read_page(PAGES - 1))
        host.kernel.send(3, read_page(0))
        replies = await until(host, 1)
        assert [reply[0] for reply in replies] == [2, 3, 1]
        assert [reply[2] for reply in replies] == [OLD, pages.ZERO, b""]
        host.kernel.send(4, read_page(PAGES - 1))
        assert await until(host, 4) == [(4, 0, pages.ZERO)]


async def test_a_store_elsewhere_goes_on(host: Host) -> None:
    worker, transport = stored(host)
    host.kernel.send(1, fallocate_request(3, 0, (PAGES - 1) * PAGE_SIZE))
    host.kernel.send(2, write_page(PAGES - 1))
    await live(transport)
    assert [reply[0] for reply in host.kernel.replies()] == [2, 1]
    worker.expected = {PAGES - 1: NEW}
    await worker.check()


@pytest.mark.parametrize("page", [0, PAGES - 1])
async def test_a_newer_store_outlives_the_discard(host: Host, page: int) -> None:
    async with in_the_middle(host) as worker:
        host.kernel.send(2, write_page(page))
        assert [reply[:2] for reply in await until(host, 2)] == [(1, 0), (2, 0)]
    worker.expected = {page: NEW}
    await worker.check()


@pytest.mark.parametrize("page", [0, PAGES - 1])
async def test_the_next_worker_drops_no_newer_store(host: Host, page: int) -> None:
    """It begins the discard anew, which covers what was done of it too."""
    async with in_the_middle(host):
        host.kernel.send(2, write_page(page))
        for _ in range(3):
            await trio.lowlevel.checkpoint()
    assert host.kernel.replies() == []
    worker, transport = host.worker()
    worker.expected = {page: NEW}
    await live(transport)
    assert [reply[:2] for reply in host.kernel.replies()] == [(1, 0), (2, 0)]
    assert worker.device.transport.replayed_requests == 2
    await worker.check()


async def test_writes_of_a_page_keep_their_order(host: Host) -> None:
    """The second one meets no page of the discard, but one of a write that waits for it."""
    worker, transport = stored(host)
    host.kernel.send(1, fallocate_request(3, 0, (PAGES - 1) * PAGE_SIZE))
    host.kernel.send(2, write_request((PAGES - 2) * PAGE_SIZE, OLD * 2))
    host.kernel.send(3, write_page(PAGES - 1))
    await live(transport)
    assert [reply[0] for reply in host.kernel.replies()] == [1, 2, 3]
    worker.expected = {PAGES - 2: OLD, PAGES - 1: NEW}
    await worker.check()


@pytest.mark.parametrize("seed", range(4))
async def test_discards_end_one_after_the_other(host: Host, seed: int) -> None:
    """In the order of arrival, whatever trio draws.  Those that take turns would all end late."""
    trio._core._run._r.seed(seed)
    _, transport = stored(host)
    size = PAGES // 4 * PAGE_SIZE
    for number in range(4):
        host.kernel.send(1 + number, fallocate_request(3, number * size, size))
    await live(transport)
    assert [reply[:2] for reply in host.kernel.replies()] == [(1, 0), (2, 0), (3, 0), (4, 0)]


async def test_one_that_waits_for_a_tier_holds_no_other_up(host: Host) -> None:
    """Its pages are not dropped anew once the tier has answered."""
    worker, transport = host.worker()
    page = (await worker.move_out())[0]
    host.tier.hold_reads = True
    host.kernel.send(1, fallocate_request(3, page * PAGE_SIZE + 96, 3 * PAGE_SIZE))
    host.kernel.send(2, write_page(page + 1))
    host.kernel.send(3, fallocate_request(3, 3000 * PAGE_SIZE, 900 * PAGE_SIZE))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.serve)
        await wait_all_tasks_blocked()
        assert [reply[:2] for reply in host.kernel.replies()] == [(3, 0)]
        host.tier.hold_reads = False
        host.tier.reads[0].finish()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert [reply[:2] for reply in host.kernel.replies()] == [(1, 0), (2, 0)]
    assert await worker.read(page + 1) == NEW
    assert await worker.read(page + 2) == pages.ZERO
