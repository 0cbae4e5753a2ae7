"""Pages of a simulation compress to the size that is asked for, and stay apart."""

from __future__ import annotations

import lz4.block
import pytest
import zstandard

from fuseswap.laboratory.contents import noise_for, page_of, same_filled
from fuseswap.units import PAGE_SIZE


@pytest.mark.parametrize("size", [100, 300, 1000, 2000, 2500, 3500, 3900])
def test_lz4_gives_the_size(size: int) -> None:
    for number in (1, 0xDEADBEEF_12345678, (1 << 64) - 1):
        page = page_of(number, noise_for(size))
        assert len(page) == PAGE_SIZE
        assert abs(len(lz4.block.compress(page, store_size=False)) - size) <= 40


def test_a_whole_page_of_noise_does_not_compress() -> None:
    page = page_of(0x123456789ABCDEF0, noise_for(PAGE_SIZE))
    assert len(lz4.block.compress(page, store_size=False)) > 3968


def test_pages_of_one_hash_are_alike_and_no_others() -> None:
    assert page_of(5, 1000) == page_of(5, 1000)
    assert len({page_of(number, 1000) for number in range(5000)}) == 5000
    assert same_filled(0x1_0000_0007) == b"\7\0\0\0" * 1024


def test_a_segment_of_them_takes_little_memory_on_a_tier() -> None:
    numbers = range(1 << 40, (1 << 40) + 500 * 7919, 7919)
    segment = b"".join(page_of(number, 2000)[:2010] for number in numbers)
    assert len(zstandard.ZstdCompressor(level=1).compress(segment)) < len(segment) / 20
