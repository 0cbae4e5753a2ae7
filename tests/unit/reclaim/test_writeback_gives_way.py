"""Writeback that was asked for gives way to stores that wait for room."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.reclaim.request import ReclaimRequest
from fuseswap.store.segment_entry import Stream
from tests.support.fake_tier import FakeTier
from tests.support.tiered_devices import STORE_FRAMES, Tiered, dense


def fill_to_the_brim(tiered: Tiered) -> int:
    """Store as long as there is room, and nobody has to ask for it; the next page."""
    head = tiered.log.heads[Stream.STORE]
    page = 0
    while tiered.log.fits(head, len(dense(page))):
        tiered.store(page)
        page += 1
    return page


def demand_all(tiered: Tiered) -> None:
    tiered.writeback.ask(ReclaimRequest.parse("all"))


def all_are_old(tiered: Tiered) -> None:
    for head in tiered.log.heads:
        tiered.log.seal(head)
    tiered.writeback.writeback_age_seconds = 500


@pytest.mark.parametrize("reason", [demand_all, all_are_old])
async def test_a_store_waits_for_one_write_and_not_for_all(
    tiered: Tiered,
    tier: FakeTier,
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
    mock_clock: MockClock,
    reason: Callable[[Tiered], None],
) -> None:
    tier.hold_writes = True
    tiered.device.in_flight.batch_size = 1
    page = fill_to_the_brim(tiered)
    reason(tiered)
    now = time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda clock: now(clock) + 1000)
    nursery.start_soon(tiered.writeback.run)
    await wait_all_tasks_blocked()
    mock_clock.jump(1)
    await wait_all_tasks_blocked()
    assert len(tier.writes) == 1, "it is under way, and nobody waits"
    nursery.start_soon(tiered.write, page)
    await wait_all_tasks_blocked()
    assert page not in tiered.expected
    tier.writes[0].finish()
    await wait_all_tasks_blocked()
    assert page in tiered.expected
    assert len(tier.written) == 1
    tier.hold_writes = False
    tier.writes[0].finish()
    for _ in range(3):
        await wait_all_tasks_blocked()
        mock_clock.jump(1)
    assert len(tier.written) >= STORE_FRAMES, "and then it goes on"
    await tiered.check()
