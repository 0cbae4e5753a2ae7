"""A backing file rests after a write that failed: longer each time, and not for a whole batch."""

from __future__ import annotations

import errno
import math

import pytest
import trio
from trio.testing import MockClock

from fuseswap.tiers.tier_health import TierHealth

FAILURE = OSError(errno.EIO, "Input/output error")


async def fail_and_rest(health: TierHealth, clock: MockClock) -> float:
    """One failure, and how long the file rests for it, in seconds."""
    began = clock.current_time()
    health.note_failure(FAILURE)
    await health.rest()
    assert not health.is_resting
    return round(clock.current_time() - began, 6)


async def test_a_rest_doubles_up_to_five_seconds(autojump_clock: MockClock) -> None:
    health = TierHealth()
    rests = [await fail_and_rest(health, autojump_clock) for _ in range(8)]
    assert rests == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


async def test_a_success_makes_the_next_rest_short(autojump_clock: MockClock) -> None:
    health = TierHealth()
    for _ in range(3):
        await fail_and_rest(health, autojump_clock)
    health.note_success()
    assert await fail_and_rest(health, autojump_clock) == 0.1


async def test_failures_of_one_batch_count_once(autojump_clock: MockClock) -> None:
    health = TierHealth()
    health.note_failure(FAILURE)
    assert [await fail_and_rest(health, autojump_clock) for _ in range(2)] == [0.1, 0.2]


async def test_stores_wait_for_a_short_rest_alone(autojump_clock: MockClock) -> None:
    health = TierHealth()
    assert not health.rests_briefly
    brief = []
    for _ in range(5):
        health.note_failure(FAILURE)
        brief.append(health.rests_briefly)
        await health.rest()
    assert brief == [True, True, True, False, False]


def state(health: TierHealth) -> tuple[bool, bool]:
    return health.takes_one, health.is_late


async def test_it_is_late_where_no_write_ends(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    health = TierHealth()
    health.timeout_s = 10
    assert health.late_at == math.inf
    health.begin()
    await trio.sleep(9)
    health.begin()
    health.end()  # one ends: the time begins anew
    await trio.sleep(9)
    assert state(health) == (True, False)
    assert health.late_at == trio.current_time() + 1
    await trio.sleep(1)
    health.begin()
    assert state(health) == (False, True)
    health.end()
    assert state(health) == (False, True), "of two, one has not ended"
    health.end()
    assert state(health) == (True, False)
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


async def test_without_writes_it_is_never_late(autojump_clock: MockClock) -> None:
    health = TierHealth()
    await trio.sleep(1000)
    health.begin()
    assert not health.is_late
