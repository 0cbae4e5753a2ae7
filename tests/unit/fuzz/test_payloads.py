"""Payloads of every codec in any state, the check right or wrong: a page, or an error."""

from __future__ import annotations

import pytest
from fuseswap_examples.deflate import Deflate
from hypothesis import given
from hypothesis import strategies as st

from fuseswap.codecs.checksum import Decoder, checksum_of
from fuseswap.codecs.registry import (
    FILL,
    LZ4,
    RAW,
    ZSTD,
    ZSTD_DICTIONARY,
    CodecRegistry,
    parse_compressor,
)
from fuseswap.errors import CorruptData
from fuseswap.units import PAGE_SIZE
from tests.support import pages
from tests.support.fuzzed import bounded, bytes_like, tries
from tests.support.plugged import a_codec
from tests.support.recompressed_devices import DICTIONARY

PLUGIN = 9
PAGE = pages.compressible(1)
VALID = {
    RAW: PAGE,
    LZ4: parse_compressor("lz4").compress(PAGE),
    ZSTD: parse_compressor("zstd:3").compress(PAGE),
    FILL: bytes(8),
    ZSTD_DICTIONARY: b"\2" + parse_compressor("zstd:3").compress(PAGE),
    PLUGIN: Deflate().compressor(None)(PAGE),
}


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    registry = CodecRegistry()
    registry.register(a_codec(Deflate()), PLUGIN)
    decoder = Decoder(registry)
    decoder.learn(2, DICTIONARY)
    return decoder


@pytest.mark.parametrize("codec", VALID)
@tries(250)
@given(data=st.data(), is_right=st.booleans())
def test_what_comes_out_is_a_page_or_an_error(
    decoder: Decoder, codec: int, data: st.DataObject, is_right: bool
) -> None:
    payload = data.draw(bytes_like(VALID[codec]))
    right = checksum_of(PAGE if codec == ZSTD_DICTIONARY else payload, codec)
    check = right if is_right else data.draw(st.integers(0, (1 << 32) - 1))
    with bounded():
        try:
            page = decoder.decode(payload, check, codec)
        except CorruptData:
            return
    assert len(page) == PAGE_SIZE
    assert check == right
    if codec == ZSTD_DICTIONARY:
        assert page == PAGE
