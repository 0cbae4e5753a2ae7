"""Checks and the decoder: what is not what was stored is an error, dictionary or not."""

from __future__ import annotations

import random

import lz4.block
import pytest
import zstandard

from fuseswap.cache.checks import CHECK_BYTES, Decoder, checksum_of
from fuseswap.cache.codecs import (
    FILL,
    FIRST_DICTIONARY,
    LAST_RAW,
    LZ4,
    RAW,
    ZSTD,
    parse_compressor,
    zstd_parameters,
)
from fuseswap.cache.dictionaries import opener
from fuseswap.errors import CorruptData
from tests import pages
from tests.recompressed import DICTIONARY

PAGE = pages.related(3)
KNOWN = FIRST_DICTIONARY + 2
FLIPS = 200


def with_dictionary(page: bytes, data: bytes = DICTIONARY) -> bytes:
    parameters = zstd_parameters(3)
    dictionary = zstandard.ZstdCompressionDict(data)
    return zstandard.ZstdCompressor(compression_params=parameters, dict_data=dictionary).compress(
        page
    )


PAYLOADS: dict[int, tuple[bytes, bytes]] = {  # codec -> payload, page
    RAW: (PAGE, PAGE),
    LAST_RAW: (PAGE, PAGE),
    LZ4: (lz4.block.compress(PAGE, store_size=False), PAGE),
    ZSTD: (parse_compressor("zstd:3").compress(PAGE), PAGE),
    FILL: (b"8 bytes.", b"8 bytes." * 512),
    KNOWN: (with_dictionary(PAGE), PAGE),
}


@pytest.fixture
def decoder() -> Decoder:
    decoder = Decoder()
    decoder.learn(KNOWN, opener(DICTIONARY))
    return decoder


def check_for(codec: int) -> int:
    payload, page = PAYLOADS[codec]
    return checksum_of(page if codec == KNOWN else payload, codec)


def stored(payload: bytes, check: int) -> bytes:
    return check.to_bytes(CHECK_BYTES, "little") + payload


@pytest.mark.parametrize("codec", PAYLOADS)
def test_what_was_stored_comes_back(decoder: Decoder, codec: int) -> None:
    payload, page = PAYLOADS[codec]
    assert decoder.decode(payload, check_for(codec), codec) == page
    assert decoder.is_sound(stored(payload, check_for(codec)), codec)


@pytest.mark.parametrize("codec", PAYLOADS)
def test_a_flipped_bit_is_found_or_harmless(decoder: Decoder, codec: int) -> None:
    """With a dictionary the page is checked: a bit of the payload may mean nothing."""
    payload, page = PAYLOADS[codec]
    right = stored(payload, check_for(codec))
    chance = random.Random(codec)
    found = 0
    for _ in range(FLIPS):
        wrong = bytearray(right)
        wrong[chance.randrange(len(wrong))] ^= 1 << chance.randrange(8)
        check = int.from_bytes(wrong[:CHECK_BYTES], "little")
        try:
            assert decoder.decode(bytes(wrong[CHECK_BYTES:]), check, codec) == page
        except CorruptData:
            assert not decoder.is_sound(bytes(wrong), codec)
            found += 1
    assert found == FLIPS or (codec == KNOWN and found > FLIPS * 0.9)


@pytest.mark.parametrize("codec", PAYLOADS)
def test_a_payload_of_another_codec_does_not_pass(decoder: Decoder, codec: int) -> None:
    payload, _ = PAYLOADS[codec]
    for other in range(16):
        if other != codec:
            with pytest.raises(CorruptData):
                decoder.decode(payload, check_for(codec), other)
            assert not decoder.is_sound(stored(payload, check_for(codec)), other)


def test_another_dictionary_in_its_place_is_found(decoder: Decoder) -> None:
    payload, _ = PAYLOADS[KNOWN]
    changed = bytearray(DICTIONARY)
    for at in range(0, len(changed), 32):  # every phrase
        changed[at] ^= 1
    decoder.learn(KNOWN, opener(bytes(changed)))
    with pytest.raises(CorruptData, match="checksum mismatch"):
        decoder.decode(payload, check_for(KNOWN), KNOWN)
    assert not decoder.is_sound(stored(payload, check_for(KNOWN)), KNOWN)


def test_a_dictionary_that_is_gone_says_so(decoder: Decoder) -> None:
    payload, _ = PAYLOADS[KNOWN]
    decoder.learn(KNOWN, opener(b""))
    with pytest.raises(CorruptData, match="its dictionary is gone"):
        decoder.decode(payload, check_for(KNOWN), KNOWN)


def test_one_decoder_does_not_know_what_another_learned() -> None:
    payload, _ = PAYLOADS[KNOWN]
    with pytest.raises(CorruptData):
        Decoder().decode(payload, check_for(KNOWN), KNOWN)


@pytest.mark.parametrize("length", range(CHECK_BYTES + 1))
def test_what_is_too_short_is_not_sound(decoder: Decoder, length: int) -> None:
    assert not decoder.is_sound(bytes(length), ZSTD)
