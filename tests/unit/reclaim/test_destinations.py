"""Which tier a segment goes to, while one of them fails, hangs or is full."""

from __future__ import annotations

import errno

import pytest
import trio
from trio.testing import MockClock

from fuseswap.counting import zeros
from fuseswap.reclaim.destinations import Destinations
from fuseswap.reclaim.write_account import WriteAccount
from fuseswap.reclaim.writeback_statistics import WritebackStatistics
from fuseswap.tiers.tier_health import FULL_S
from fuseswap.tiers.tier_policy import TierPolicy
from fuseswap.tiers.tier_table import TierEntry, TierTable
from fuseswap.tiers.write_budget import Budget
from fuseswap.units import SEGMENT_BYTES
from tests.support.fake_tier import FakeTier

LATE = OSError(errno.ETIMEDOUT, "no answer")
FULL = OSError(errno.ENOSPC, "the server is full")


class Far(FakeTier):
    is_remote = True


class Two:
    """One on another machine, first in line, and one here."""

    def __init__(self) -> None:
        tiers = TierTable()
        self.far = tiers.register(Far(9, "far"), TierPolicy(2))
        self.near = tiers.register(FakeTier(9, "near"), TierPolicy(1))
        self.destinations = Destinations(tiers)
        self.counters = zeros(WritebackStatistics)

    def begin(self) -> tuple[TierEntry, WriteAccount]:
        """A segment begins to be written to the one that it goes to."""
        entry = self.destinations.choose()
        assert entry is not None
        account = WriteAccount(Budget(lambda left: None), entry.health, self.counters)
        account.begin(SEGMENT_BYTES)
        return entry, account


@pytest.fixture
def two() -> Two:
    return Two()


async def test_one_that_hangs_gets_a_single_write_until_that_succeeds(
    two: Two, autojump_clock: MockClock
) -> None:
    first = [two.begin() for _ in range(4)]
    assert [entry for entry, _ in first] == [two.far] * 4
    for _, account in first:
        account.end(SEGMENT_BYTES, LATE)
    assert two.begin()[0] is two.near, "it rests"
    await trio.sleep(1)
    tried, account = two.begin()
    assert tried is two.far
    for _ in range(3):
        assert two.begin()[0] is two.near, "the one that tries hangs"
    account.end(SEGMENT_BYTES, None)
    assert [two.begin()[0] for _ in range(3)] == [two.far] * 3


async def test_a_try_that_was_not_needed_is_none(two: Two, autojump_clock: MockClock) -> None:
    two.begin()[1].end(SEGMENT_BYTES, LATE)
    await trio.sleep(1)
    two.begin()[1].give_up(SEGMENT_BYTES)
    assert two.begin()[0] is two.far


async def test_a_full_server_is_a_full_tier_and_no_error(
    two: Two, autojump_clock: MockClock
) -> None:
    for _ in range(3):
        assert two.begin()[0] is two.far
    two.begin()[1].end(SEGMENT_BYTES, FULL)
    assert two.far.state == "full"
    assert two.counters.writeback_failed == 0
    assert two.begin()[0] is two.near
    two.near.policy = TierPolicy(1, draining=True)
    assert not two.destinations.has_room
    assert not two.destinations.exist()
    await trio.sleep(FULL_S + 1)
    assert two.far.state == "active"
    assert two.destinations.has_room


async def test_a_file_without_room_is_one_that_fails(two: Two, autojump_clock: MockClock) -> None:
    two.far.policy = TierPolicy(2, draining=True)
    entry, account = two.begin()
    account.end(SEGMENT_BYTES, FULL)
    assert entry.state == "resting"
    assert two.counters.writeback_failed == 1


async def test_a_rest_lasts_until_one_of_them_is_over(two: Two, autojump_clock: MockClock) -> None:
    """Also while another one is tried, whose rest was over before."""
    two.begin()[1].end(SEGMENT_BYTES, LATE)
    await trio.sleep(1)
    two.begin()
    two.near.health.note_failure(LATE)
    assert two.destinations.rests_briefly
    began = trio.current_time()
    await two.destinations.rest()
    assert trio.current_time() > began
    assert two.begin()[0] is two.near


async def test_one_that_does_not_answer_gets_nothing(two: Two, autojump_clock: MockClock) -> None:
    begun = [two.begin() for _ in range(4)]
    assert [entry for entry, _ in begun] == [two.far] * 4
    await trio.sleep(two.far.health.timeout_s)
    assert two.far.state == "late"
    assert two.begin()[0] is two.near
    for _, account in begun:
        assert two.begin()[0] is two.near
        account.end(SEGMENT_BYTES, None)
    assert two.begin()[0] is two.far
