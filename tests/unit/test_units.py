"""Page numbers and segment ids are types of their own, which cost nothing."""

from __future__ import annotations

from typing import assert_type

from fuseswap.store.slot_table import CLUSTER_SHIFT
from fuseswap.store.slot_word import SEGMENT_ID_MASK
from fuseswap.units import (
    FIRST_PAGE,
    PAGE_SHIFT,
    PageNumber,
    SegmentId,
    numbered,
    page_array,
    page_range,
    segment_range,
)


def test_a_shift_makes_the_type_without_a_call() -> None:
    """`assert_type` is mypy's; as it runs these are shifts of plain ints."""
    assert assert_type(8191 >> PAGE_SHIFT, PageNumber) == 1
    assert assert_type(9 & SEGMENT_ID_MASK, SegmentId) == 9
    assert assert_type(3 << CLUSTER_SHIFT, PageNumber) == 1536
    assert {type(one) for one in (PAGE_SHIFT, SEGMENT_ID_MASK, CLUSTER_SHIFT)} == {int}


def test_ranges_are_plain_ones() -> None:
    assert [assert_type(page, PageNumber) for page in page_range(2, 4)] == [2, 3]
    assert [assert_type(segment, SegmentId) for segment in segment_range(2, 4)] == [2, 3]
    assert page_range is range
    assert list(numbered([7, 8], FIRST_PAGE)) == [(0, 7), (1, 8)]


def test_an_array_of_pages_is_read_from_4_bytes_each() -> None:
    assert list(page_array(b"\1\0\0\0\2\0\0\0")) == list(page_array([1, 2])) == [1, 2]
