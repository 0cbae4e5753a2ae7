"""Pages of a simulation compress to the size that is asked for, and stay apart."""

from __future__ import annotations

import lz4.block
import pytest
import zstandard

from fuseswap.codecs.zstd import Zstd
from fuseswap.laboratory.contents import Contents, half_word, same_filled
from fuseswap.units import PAGE_SIZE

pytestmark = pytest.mark.slow

GAINS = (0, 12, 28, 40)


@pytest.mark.parametrize("gain", GAINS)
@pytest.mark.parametrize("size", [100, 300, 1000, 2000, 2500, 3500, 3900])
def test_lz4_gives_the_size(size: int, gain: int) -> None:
    contents = Contents(gain)
    for number in (1, 0xDEADBEEF_12345678, (1 << 64) - 1):
        page = contents.page_of(number, contents.noise_for(size))
        assert len(page) == PAGE_SIZE
        assert abs(len(lz4.block.compress(page, store_size=False)) - size) <= 64


@pytest.mark.parametrize("gain", GAINS)
def test_zstd_gains_what_is_asked_for(gain: int) -> None:
    contents, compress = Contents(gain), Zstd().compressor(12)
    pages = [contents.page_of(number, contents.noise_for(2000)) for number in range(50)]
    before = sum(len(lz4.block.compress(page, store_size=False)) for page in pages)
    assert abs(100 - 100 * sum(map(len, map(compress, pages))) / before - gain) < 3


def test_a_dictionary_does_not_know_the_noise() -> None:
    """One of 64 KiB had all of a block of 8 KiB, and a page became 60 bytes."""
    contents = Contents()
    noise = contents.noise_for(2000)
    trained = zstandard.train_dictionary(
        1 << 16, [contents.page_of(number, noise) for number in range(1000)]
    )
    compress = zstandard.ZstdCompressor(level=3, dict_data=trained).compress
    pages = [contents.page_of(number, noise) for number in range(5000, 5050)]
    assert sum(len(compress(page)) for page in pages) > 50 * 2000 * 0.9


def test_a_whole_page_of_noise_does_not_compress() -> None:
    contents = Contents()
    page = contents.page_of(0x123456789ABCDEF0, contents.noise_for(PAGE_SIZE))
    assert len(lz4.block.compress(page, store_size=False)) > 3968


@pytest.mark.parametrize("noise", [0, 1000, 2023, 2024, 2025, 2026, 2027, 4088])
def test_pages_of_one_hash_are_alike_and_no_others(noise: int) -> None:
    contents = Contents()
    assert contents.page_of(5, noise) == contents.page_of(5, noise)
    pages = {contents.page_of(number, noise) for number in range(5000)}
    assert len(pages) == 5000
    assert {len(page) for page in pages} == {PAGE_SIZE}


def test_a_same_filled_page_is_a_word() -> None:
    assert same_filled(half_word(0xA_0000_0007)) == b"\7\0\0\0" * 1024
