"""Checks and the decoder: what is not what was stored is an error, dictionary or not."""

from __future__ import annotations

import random
import resource
from collections.abc import Callable
from functools import partial

import lz4.block
import pytest
import zstandard

from fuseswap.codecs.checksum import CHECK_BYTES, Decoder, checksum_of
from fuseswap.codecs.dictionary import Dictionary, compressor
from fuseswap.codecs.registry import (
    FILL,
    LAST_RAW,
    LZ4,
    RAW,
    ZSTD,
    ZSTD_DICTIONARY,
    parse_compressor,
)
from fuseswap.codecs.zstd import context_for
from fuseswap.errors import CorruptData
from fuseswap.units import PAGE_SIZE
from tests.support import pages
from tests.support.recompressed_devices import DICTIONARY

PAGE = pages.related(3)
KNOWN = ZSTD_DICTIONARY
NUMBER = 2
FLIPS = 200


PAYLOADS: dict[int, tuple[bytes, bytes]] = {  # codec -> payload, page
    RAW: (PAGE, PAGE),
    LAST_RAW: (PAGE, PAGE),
    LZ4: (lz4.block.compress(PAGE, store_size=False), PAGE),
    ZSTD: (parse_compressor("zstd:3").compress(PAGE), PAGE),
    FILL: (b"8 bytes.", b"8 bytes." * 512),
    KNOWN: (compressor(3, Dictionary(NUMBER, 1, DICTIONARY))(PAGE), PAGE),
}


@pytest.fixture
def decoder() -> Decoder:
    decoder = Decoder()
    decoder.learn(NUMBER, DICTIONARY)
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
    decoder.learn(NUMBER, bytes(changed))
    with pytest.raises(CorruptData, match="checksum mismatch"):
        decoder.decode(payload, check_for(KNOWN), KNOWN)
    assert not decoder.is_sound(stored(payload, check_for(KNOWN)), KNOWN)


def test_a_dictionary_that_is_gone_says_so(decoder: Decoder) -> None:
    payload, _ = PAYLOADS[KNOWN]
    decoder.learn(NUMBER, b"")
    with pytest.raises(CorruptData, match="its dictionary is gone"):
        decoder.decode(payload, check_for(KNOWN), KNOWN)


def test_one_decoder_does_not_know_what_another_learned() -> None:
    payload, _ = PAYLOADS[KNOWN]
    with pytest.raises(CorruptData):
        Decoder().decode(payload, check_for(KNOWN), KNOWN)


@pytest.mark.parametrize("length", range(CHECK_BYTES + 1))
def test_what_is_too_short_is_not_sound(decoder: Decoder, length: int) -> None:
    assert not decoder.is_sound(bytes(length), ZSTD)


@pytest.mark.parametrize("number", [0, 1, NUMBER + 1, 255])
def test_the_number_of_another_dictionary_is_found(decoder: Decoder, number: int) -> None:
    """One that was never there, or has gone, or another."""
    decoder.learn(1, DICTIONARY[::-1])
    decoder.learn(255, DICTIONARY)
    decoder.learn(255, b"")
    payload, _ = PAYLOADS[KNOWN]
    with pytest.raises(CorruptData):
        decoder.decode(bytes([number]) + payload[1:], check_for(KNOWN), KNOWN)


@pytest.mark.parametrize("codec", [LZ4, ZSTD, FILL, KNOWN])
@pytest.mark.parametrize("payload", [b"", bytes([NUMBER])])
def test_an_empty_payload_is_corrupt(decoder: Decoder, codec: int, payload: bytes) -> None:
    for check in (checksum_of(payload, codec), checksum_of(b"", codec), check_for(codec)):
        with pytest.raises(CorruptData):
            decoder.decode(payload, check, codec)


def allocated_by(job: Callable[[], object]) -> int:
    """Bytes the process got beyond what it ever had."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CorruptData):
        job()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    "head",
    [
        bytes([0, 17 << 3]),  # a window of 128 MiB
        bytes([0xE0]) + (256 << 20).to_bytes(8, "little"),  # a page of 256 MiB
        bytes([0xA0]) + (256 << 20).to_bytes(4, "little"),
        b"\x28\xb5\x2f\xfd\xe0" + (256 << 20).to_bytes(8, "little"),  # with a magic
    ],
    ids=["window", "size", "short", "magic"],
)
def test_what_a_frame_claims_is_not_allocated(head: bytes, known: bool) -> None:
    """With a dictionary the check is of the page, so the frame may be anything."""
    decoder = Decoder()
    decoder.learn(NUMBER, DICTIONARY)
    codec = KNOWN if known else ZSTD
    frame = head + PAYLOADS[codec][0][2 + known :]
    payload = bytes([NUMBER]) + frame if known else frame
    check = checksum_of(PAGE if known else payload, codec)
    assert allocated_by(partial(decoder.decode, payload, check, codec)) < 32 << 20


@pytest.mark.parametrize("known", [False, True])
def test_a_context_does_not_grow_by_what_a_frame_claims(known: bool) -> None:
    context = context_for(zstandard.ZstdCompressionDict(DICTIONARY) if known else None)
    frame = bytes([0, 17 << 3]) + PAYLOADS[ZSTD][0][2:]
    with pytest.raises(zstandard.ZstdError, match="too much memory"):
        context.decompress(frame, max_output_size=PAGE_SIZE)
    assert context.memory_size() < 1 << 20


@pytest.mark.parametrize("length", [0, 1, 4095])
def test_a_page_of_another_length_is_corrupt(length: int) -> None:
    payload = lz4.block.compress(bytes(length), store_size=False)
    with pytest.raises(CorruptData):
        Decoder().decode(payload, checksum_of(payload, LZ4), LZ4)
