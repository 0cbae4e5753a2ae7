"""Pages as text: what is read, what is refused, and how many go into one order."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseswap.errors import InvalidArgument
from fuseswap.reclaim.page_ranges import MOST_PAGES, in_pieces, parse_ranges


def test_ranges_are_read() -> None:
    assert [list(one) for one in parse_ranges("7,0-2,5-5")] == [[7], [0, 1, 2], [5]]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "'' is no page, and no range as 0-99"),
        ("1,,2", "'' is no page, and no range as 0-99"),
        ("1-", "'1-' is no page, and no range as 0-99"),
        ("-1", "'-1' is no page, and no range as 0-99"),
        ("0x1", "'0x1' is no page, and no range as 0-99"),
        ("9-8", "'9-8' is no range of pages"),
        ("99999999999", "'99999999999' is no page, and no range as 0-99"),
        ("0-4294967296", "'0-4294967296' is no range of pages"),
        ("0-4096", "an order names 4096 pages at most"),
        ("0-4095,9", "an order names 4096 pages at most"),
    ],
)
def test_nonsense_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{re.escape(reason)}$"):
        parse_ranges(text)


@given(st.sets(st.integers(0, (1 << 32) - 1), max_size=2000), st.integers(0, 10000))
def test_pieces_are_all_pages_once_and_each_is_an_order(some: set[int], run: int) -> None:
    pages = sorted({*some, *range(1000, 1000 + run)})
    found = []
    for text, count in in_pieces(pages):
        assert len(text) <= 3900
        ranges = parse_ranges(text)
        assert sum(map(len, ranges)) == count <= MOST_PAGES
        found += [page for one in ranges for page in one]
    assert found == pages
