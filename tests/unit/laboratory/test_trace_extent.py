"""What a simulation knows of a trace before it begins."""

from __future__ import annotations

import pytest

from fuseswap.codecs.registry import LZ4, ZSTD, ZSTD_DICTIONARY
from fuseswap.errors import InvalidArgument
from fuseswap.frontswap.trace_ring import DISCARD, LOAD, STORE
from fuseswap.laboratory.trace_extent import MOST_PAGES, Extent, extent_of
from fuseswap.laboratory.trace_format import COMPRESSED, HOLE, Event


def store(page: int, size: int, codec: int = LZ4) -> Event:
    return Event(0, STORE, page, 1, size, COMPRESSED, codec)


def load(page: int, size: int, codec: int, time_ns: int = 0) -> Event:
    return Event(time_ns, LOAD, page, 0, size, COMPRESSED, codec)


def test_pages_and_time() -> None:
    events = [store(5, 100), Event(2_000_000_000, DISCARD, 7, 10, 0, HOLE, 0)]
    assert extent_of(events) == Extent(17, 2.0, 0)


def test_the_gain_is_that_of_pages_which_were_recompressed() -> None:
    events = [
        store(1, 2000), load(1, 2000, LZ4), load(1, 1400, ZSTD),
        store(2, 1000), load(2, 700, ZSTD_DICTIONARY),
        store(3, 900, ZSTD), load(3, 100, ZSTD),
        load(4, 10, ZSTD),
    ]  # fmt: skip
    assert extent_of(events).gain_percent == 30


def test_what_it_refuses() -> None:
    with pytest.raises(InvalidArgument, match="no event"):
        extent_of([])
    with pytest.raises(InvalidArgument, match="1 TiB"):
        extent_of([store(MOST_PAGES, 1)])
