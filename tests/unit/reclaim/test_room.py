"""Room: who waits for it, who is woken, and when it is hopeless."""

from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fuseswap.tiers.callbacks import await_callback
from tests.support.tiered_devices import Tiered


async def test_who_wants_room_ends_the_sleep(tierless: Tiered, mock_clock: MockClock) -> None:
    room = tierless.device.room
    room.want()
    assert await room.next_call(1000)
    assert not room.is_wanted
    room.call()
    assert not await room.next_call(1000)


async def test_the_sleep_has_an_end(tierless: Tiered, autojump_clock: MockClock) -> None:
    room = tierless.device.room
    began = trio.current_time()
    assert not await room.next_call(0.5)
    assert trio.current_time() - began == 0.5


async def test_all_who_wait_are_woken_and_counted(
    tierless: Tiered, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    room = tierless.device.room
    for _ in range(3):
        nursery.start_soon(await_callback, room.begin_wait)
    await wait_all_tasks_blocked()
    assert room.is_wanted
    assert tierless.writeback.statistics().saved_by_writeback == 0
    assert room.is_awaited
    room.wake()
    await wait_all_tasks_blocked()
    assert tierless.writeback.statistics().saved_by_writeback == 3


async def test_an_attempt_that_made_no_room_is_remembered_for_a_while(
    tierless: Tiered, autojump_clock: MockClock
) -> None:
    room = tierless.device.room

    def state() -> tuple[bool, bool]:
        return room.exists, room.is_hopeless

    room.end_attempt()
    assert state() == (True, False)
    tierless.cache.pool_limit_bytes = 0
    assert state() == (False, False)
    room.end_attempt()
    assert state() == (False, True)
    await trio.sleep(0.1)
    assert state() == (False, False)
