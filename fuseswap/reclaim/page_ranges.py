"""Pages that an order names, as text: ``0-99,512``.

Bounded, since the worker keeps what an order means until it is done.  Who wants more pages gives
one order after the other; `in_pieces` says which.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from fuseswap.errors import InvalidArgument
from fuseswap.spelling import is_whole
from fuseswap.units import PageNumber, page_range

MOST_PAGES = 4096  # of an order: 16 MiB of pages
_MOST_BYTES = 3840  # of text: a parameter has 4096, and other words stand beside this
_NUMBER_BYTES = 10
_MOST_NUMBER = 1 << 32  # behind the last page of the largest device


def parse_ranges(text: str) -> list[Sequence[PageNumber]]:
    """The ranges in ``text``; raises `InvalidArgument` where these are none, or too many pages."""
    ranges, count = [], 0
    for part in text.split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        numbers = (first, last)
        if not all(is_whole(number) and len(number) <= _NUMBER_BYTES for number in numbers):
            raise InvalidArgument(f"'{part}' is no page, and no range as 0-99")
        if not int(first) <= int(last) < _MOST_NUMBER:
            raise InvalidArgument(f"'{part}' is no range of pages")
        ranges.append(page_range(int(first), int(last) + 1))
        count += len(ranges[-1])
        if count > MOST_PAGES:
            raise InvalidArgument(f"an order names {MOST_PAGES} pages at most")
    return ranges


def in_pieces(pages: Iterable[int]) -> Iterator[tuple[str, int]]:
    """``pages``, which are sorted, as text for one order after the other, each with its count."""
    parts: list[str] = []
    count = size = 0
    for first, last in _runs(pages):
        part = f"{first}-{last}" if last > first else str(first)
        length = last - first + 1
        if parts and (count + length > MOST_PAGES or size + len(part) > _MOST_BYTES):
            yield ",".join(parts), count
            parts, count, size = [], 0, 0
        parts.append(part)
        count += length
        size += len(part) + 1
    if parts:
        yield ",".join(parts), count


def _runs(pages: Iterable[int]) -> Iterator[tuple[int, int]]:
    """First and last page of each run of neighbours, of `MOST_PAGES` at most."""
    first = last = -1
    for page in pages:
        if page == last + 1 and first >= 0 and page - first < MOST_PAGES:
            last = page
            continue
        if first >= 0:
            yield first, last
        first = last = page
    if first >= 0:
        yield first, last
