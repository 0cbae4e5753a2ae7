"""The account of writes to the backing file: budget, health and counters agree."""

from __future__ import annotations

import errno

import pytest
from trio.testing import MockClock

from fuseswap.counting import zeros
from fuseswap.reclaim.write_account import WriteAccount
from fuseswap.reclaim.writeback_statistics import WritebackStatistics
from fuseswap.tiers.tier_health import TierHealth
from fuseswap.tiers.write_budget import Budget
from fuseswap.units import PAGE_SIZE

FAILURE = OSError(errno.EIO, "Input/output error")


class Accounted:
    """An account with all its parts in sight."""

    def __init__(self) -> None:
        self.noted: list[int] = []
        self.budget = Budget(self.noted.append)
        self.health = TierHealth()
        self.counters = zeros(WritebackStatistics)
        self.account = WriteAccount(self.budget, self.health, self.counters)


@pytest.fixture
def accounted(autojump_clock: MockClock) -> Accounted:
    return Accounted()


async def test_without_a_budget_nothing_is_noted(accounted: Accounted) -> None:
    account = accounted.account
    assert not account.is_limited
    assert account.may_begin(1 << 40)
    account.begin(PAGE_SIZE)
    account.end(PAGE_SIZE, None)
    assert accounted.budget.left_bytes is None
    assert accounted.noted == []
    assert accounted.counters.bd_writes == 1


async def test_a_write_is_paid_for_as_it_begins(accounted: Accounted) -> None:
    account = accounted.account
    accounted.budget.left_bytes = 3 * PAGE_SIZE
    account.begin(2 * PAGE_SIZE)
    assert account.affords(PAGE_SIZE)
    assert not account.affords(PAGE_SIZE + 1)
    assert not account.may_begin(PAGE_SIZE + 1)
    assert not account.may_begin_soon(PAGE_SIZE + 1)
    account.end(2 * PAGE_SIZE, None)
    assert accounted.noted == [PAGE_SIZE]
    assert accounted.counters.bd_writes == 2


async def test_a_write_that_fails_costs_nothing(accounted: Accounted) -> None:
    account = accounted.account
    accounted.budget.left_bytes = PAGE_SIZE
    account.begin(PAGE_SIZE)
    account.end(PAGE_SIZE, FAILURE)
    assert accounted.noted == [0, PAGE_SIZE]
    assert accounted.counters.writeback_failed == 1
    assert accounted.counters.bd_writes == 0


async def test_a_file_that_rests_briefly_may_be_waited_for(
    accounted: Accounted, autojump_clock: MockClock
) -> None:
    account = accounted.account
    for soon in (True, True, True, False):
        account.end(PAGE_SIZE, FAILURE)
        assert not account.may_begin(PAGE_SIZE)
        assert account.may_begin_soon(PAGE_SIZE) == soon
        await accounted.health.rest()
        assert account.may_begin(PAGE_SIZE)
    account.end(PAGE_SIZE, None)
    account.end(PAGE_SIZE, FAILURE)
    assert account.may_begin_soon(PAGE_SIZE)


async def test_what_was_not_written_costs_nothing(accounted: Accounted) -> None:
    accounted.budget.left_bytes = 3 * PAGE_SIZE
    accounted.account.begin(PAGE_SIZE)
    accounted.account.give_up(PAGE_SIZE)
    assert accounted.budget.left_bytes == 3 * PAGE_SIZE
    assert accounted.counters.bd_writes == accounted.counters.writeback_failed == 0
