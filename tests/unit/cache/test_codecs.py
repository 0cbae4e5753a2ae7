"""Codecs: the operations table, and what happens when the choice changes."""

from __future__ import annotations

import pytest

from fuseswap.cache.codecs import (
    DECOMPRESS,
    DECOMPRESS_ERRORS,
    FILL,
    LAST_RAW,
    LZ4,
    RAW,
    ZSTD,
    parse_compressor,
)
from fuseswap.errors import CorruptData, InvalidArgument
from tests import pages
from tests.invariants import StoredObject
from tests.stores import FrontedCache

COMPRESSORS = ("lz4", "zstd", "zstd:1", "zstd:3", "zstd:19")


@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.parametrize("page", pages.CORPUS)
def test_every_page_comes_back(name: str, page: str) -> None:
    compressor = parse_compressor(name)
    for form in (pages.CORPUS[page], memoryview(pages.CORPUS[page])):
        payload = compressor.compress(form)
        assert DECOMPRESS[compressor.codec](payload) == pages.CORPUS[page]


@pytest.mark.parametrize("name", COMPRESSORS)
def test_compressible_pages_get_smaller(name: str) -> None:
    assert len(parse_compressor(name).compress(pages.CORPUS["compressible"])) < 2048


def test_raw_and_fill_need_no_compressor() -> None:
    page = pages.CORPUS["incompressible"]
    assert DECOMPRESS[RAW](page) == page
    assert DECOMPRESS[FILL](b"12345678") == b"12345678" * 512


@pytest.mark.parametrize(
    ("text", "name"),
    [("lz4", "lz4"), (" zstd\n", "zstd:1"), ("zstd:07", "zstd:7"), ("zstd:19", "zstd:19")],
)
def test_names_are_told_in_full(text: str, name: str) -> None:
    assert parse_compressor(text).name == name


@pytest.mark.parametrize(
    "text",
    ["", "lzo", "lz4:1", "LZ4", "zstd:", "zstd:0", "zstd:20", "zstd:-1", "zstd:1:2", "zstd:x"],
)
def test_a_bad_name_is_an_error_that_says_what_to_use(text: str) -> None:
    with pytest.raises(InvalidArgument, match="use lz4 or zstd:LEVEL"):
        parse_compressor(text)


@pytest.mark.parametrize("codec", sorted(set(range(LAST_RAW + 1, 16)) - {LZ4, ZSTD, FILL}))
def test_an_unknown_codec_is_corrupt_data(codec: int) -> None:
    with pytest.raises(CorruptData):
        DECOMPRESS[codec](b"12345678")


@pytest.mark.parametrize("codec", [LZ4, ZSTD])
def test_foreign_bytes_raise_one_of_the_listed_errors(codec: int) -> None:
    for seed in range(50):
        with pytest.raises(DECOMPRESS_ERRORS):
            DECOMPRESS[codec](pages.incompressible(seed)[:200])


def test_stored_pages_keep_their_codec(cache: FrontedCache) -> None:
    page = pages.CORPUS["compressible"]
    cache.dedup.set_switch("off")
    cache.store(0, page)
    for number, name in enumerate(("zstd:3", "zstd:12", "lz4"), 1):
        cache.encoder.set_compressor(name)
        cache.store(number, page)
    codecs = [StoredObject.of(n, cache.slots.get(n)).codec for n in range(4)]
    assert codecs == [LZ4, ZSTD, ZSTD, LZ4]
    assert [cache.load(n) for n in range(4)] == [page] * 4


def test_a_bad_compressor_changes_nothing(cache: FrontedCache) -> None:
    cache.encoder.set_compressor("zstd:3")
    with pytest.raises(InvalidArgument):
        cache.encoder.set_compressor("zstd:99")
    cache.store(0, pages.CORPUS["compressible"])
    assert cache.encoder.compressor.name == "zstd:3"
    assert StoredObject.of(0, cache.slots.get(0)).codec == ZSTD
