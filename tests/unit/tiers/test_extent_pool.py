"""Extents: each is free or in use, and the free ones are handed out lowest first."""

from __future__ import annotations

import pytest

from fuseswap.tiers.extent_pool import NO_EXTENT, ExtentPool


def test_without_a_tier_there_is_none() -> None:
    extents = ExtentPool()
    assert (extents.take(), extents.available, extents.in_use) == (NO_EXTENT, 0, 0)


def test_lowest_first_and_no_more_than_there_are() -> None:
    extents = ExtentPool(3)
    assert [extents.take() for _ in range(4)] == [0, 1, 2, NO_EXTENT]
    assert (extents.available, extents.in_use) == (0, 3)


def test_what_was_given_back_is_taken_before_fresh_ones() -> None:
    extents = ExtentPool(4)
    extents.take()
    extents.take()
    extents.give_back(0)
    assert (extents.available, extents.in_use) == (3, 1)
    assert [extents.take() for _ in range(3)] == [0, 2, 3]


@pytest.mark.parametrize("used", [set(), {0}, {3}, {0, 2, 5}, {0, 1, 2, 3, 4, 5}])
def test_adopt_takes_over_what_is_used(used: set[int]) -> None:
    extents = ExtentPool(6)
    extents.adopt(used)
    assert (extents.in_use, extents.available) == (len(used), 6 - len(used))
    assert [extents.take() for _ in range(6 - len(used))] == sorted(set(range(6)) - used)
    assert extents.take() == NO_EXTENT


def test_a_tier_that_is_known_after_the_log_was_adopted() -> None:
    extents = ExtentPool()
    extents.adopt({1})
    extents.extent_count = 3
    assert extents.available == 2
    assert sorted([extents.take(), extents.take()]) == [0, 2]


def test_a_tier_that_has_shrunk_hands_out_nothing_beyond_its_end() -> None:
    extents = ExtentPool()
    extents.adopt({9})
    extents.extent_count = 4
    taken = []
    while (extent := extents.take()) != NO_EXTENT:
        taken.append(extent)
    assert all(extent < 9 for extent in taken)
    extents.give_back(9)
    assert extents.in_use == len(taken)
