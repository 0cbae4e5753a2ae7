"""Policies of tiers: words in, words out; and how long reads took."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseswap.errors import InvalidArgument
from fuseswap.tiers.read_times import ReadTimes
from fuseswap.tiers.tier_policy import TierPolicy
from fuseswap.tiers.tier_table import TierTable
from fuseswap.units import MIB
from tests.support.fake_tier import FakeTier

policies = st.builds(
    TierPolicy,
    st.integers(-32768, 32767),
    st.none() | st.integers(1, 1 << 24).map(lambda count: count * MIB),
    st.booleans(),
)


@given(policies, policies)
def test_what_is_kept_is_read_again(policy: TierPolicy, other: TierPolicy) -> None:
    assert other.changed(str(policy).split()) == policy


def test_only_what_is_named_changes() -> None:
    policy = TierPolicy(5, 3 * MIB, True)
    assert policy.changed(["limit=none"]) == TierPolicy(5, None, True)
    assert policy.changed(["priority=-7"]) == TierPolicy(-7, 3 * MIB, True)
    assert policy.changed(["drain=N", "limit=1.5M"]) == TierPolicy(5, MIB, False)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("priority=x", "priority 'x' is not a number"),
        ("priority=٣", "priority '٣' is not a number"),
        ("priority=32768", "priority 32768 is not between -32768 and 32767"),
        ("limit=12K", "limit 12K is less than 1M, the size of a segment"),
        ("drain=maybe", "drain is Y or N, not 'maybe'"),
        ("speed=3", "'speed=3' is none of priority, limit, drain, each =VALUE"),
        ("priority", "'priority' is none of priority, limit, drain, each =VALUE"),
    ],
)
def test_nonsense_is_one_line(words: str, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        TierPolicy().changed([words])
    assert str(caught.value) == reason


def test_each_tier_without_a_priority_comes_behind_those_before() -> None:
    table = TierTable()
    table.register(FakeTier(1, "a"), TierPolicy(100))
    found = [table.register(FakeTier(1, name)).policy.priority for name in ("b", "c")]
    assert found == [-1, -2]


def test_names_that_an_older_one_kept_have_no_policy() -> None:
    assert TierTable({3: "old"}).register(FakeTier(1, "old")).number == 3


def test_a_percentile_is_a_fifth_too_large_at_most() -> None:
    times = ReadTimes()
    assert times.below(0.99) == 0
    for us in range(1, 1001):
        times.add(us * 1000)
    assert 500 <= times.below(0.5) <= 625
    assert 990 <= times.below(0.99) <= 1238


def test_old_reads_are_forgotten() -> None:
    times = ReadTimes()
    for _ in range(10_000):
        times.add(1_000_000)
    for _ in range(20_000):
        times.add(10_000)
    assert times.below(0.99) <= 12


@given(st.integers(0, 1 << 45))
def test_no_time_is_too_long(ns: int) -> None:
    times = ReadTimes()
    times.add(ns)
    us = ns // 1000
    assert times.below(1.0) >= min(us, 1 << 23)
    assert times.below(1.0) <= max(2, us * 1.26) or us < 4
