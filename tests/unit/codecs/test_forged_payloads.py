"""Payloads that were made on purpose: the check is right, and what comes out is no page.

The check has no key.  So whoever writes to a tier that is not encrypted may make any payload.
"""

from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import lz4.block
import pytest
import zstandard
from fuseswap_examples.deflate import Deflate

from fuseswap.codecs.checksum import CHECK_BYTES, Decoder, checksum_of
from fuseswap.codecs.dictionary import Dictionary
from fuseswap.codecs.lz4 import Lz4
from fuseswap.codecs.recompressor import Recompressor, Repacker, train
from fuseswap.codecs.registry import (
    FILL,
    LZ4,
    RAW,
    ZSTD,
    ZSTD_DICTIONARY,
    CodecRegistry,
    parse_compressor,
)
from fuseswap.codecs.zstd import Zstd
from fuseswap.errors import CorruptData
from fuseswap.units import MIB, PAGE_SIZE
from tests.support.plugged import a_codec
from tests.support.recompressed_devices import DICTIONARY

pytestmark = pytest.mark.slow

NUMBER = 2
PLUGIN = 9
HUGE = 64 * MIB
SIZES = [0, 1, PAGE_SIZE - 1, PAGE_SIZE + 1, 2 * PAGE_SIZE, HUGE]  # bytes that come out

MAGICLESS = zstandard.FORMAT_ZSTD1_MAGICLESS


def lz4_of(size: int, stores_size: bool = False) -> bytes:
    return bytes(lz4.block.compress(bytes(size), store_size=stores_size))


def zstd_of(size: int, *, says_size: bool, window_log: int = 12, known: bool = False) -> bytes:
    """A frame without magic; ``window_log`` 12 is that of ours."""
    options = zstandard.ZstdCompressionParameters.from_level(
        3,
        format=MAGICLESS,
        window_log=window_log,
        write_content_size=says_size,
        write_checksum=False,
        write_dict_id=False,
    )
    dictionary = zstandard.ZstdCompressionDict(DICTIONARY) if known else None
    compressor = zstandard.ZstdCompressor(compression_params=options, dict_data=dictionary)
    if says_size:
        return compressor.compress(bytes(size))
    writer = compressor.compressobj()
    return writer.compress(bytes(size)) + writer.flush()


def zstd_forged(known: bool) -> dict[str, Callable[[], bytes]]:
    def of(size: int, says_size: bool = False, window_log: int = 12) -> bytes:
        return zstd_of(size, says_size=says_size, window_log=window_log, known=known)

    def with_head(head: bytes) -> bytes:
        return head + of(HUGE)[2:]

    found: dict[str, Callable[[], bytes]] = {}
    for size in SIZES:
        found[f"missing-{size}"] = partial(of, size)
        found[f"told-{size}"] = partial(of, size, says_size=True)
    for log in (17, 27):  # 128 KiB and 128 MiB
        found[f"window-{log}"] = partial(with_head, bytes([0, log - 10 << 3]))
        found[f"wide-{log}"] = partial(of, HUGE, window_log=log)
    for descriptor, width in ((0xE0, 8), (0xA0, 4), (0x60, 2), (0x20, 1), (0xC0, 8), (0x80, 4)):
        told = min(HUGE, (1 << 8 * width) - 1).to_bytes(width, "little")
        lie = bytes([descriptor]) + told + b"\0\x28" + bytes(64)
        found[f"lie-{descriptor:x}"] = partial(bytes, lie)
    found["two-frames"] = lambda: 2 * of(PAGE_SIZE // 2)
    return found


def plugin_of(size: int) -> bytes:
    return checksum_of(bytes(size), 0).to_bytes(4, "little") + zlib.compress(bytes(size))


# Made by the test that wants one: each process of xdist would make all of them, for seconds.
FORGED: dict[int, dict[str, Callable[[], bytes]]] = {
    RAW: {str(size): partial(bytes, size) for size in SIZES if size < HUGE},
    LZ4: {
        **{str(size): partial(lz4_of, size) for size in SIZES},
        **{f"told-{size}": partial(lz4_of, size, stores_size=True) for size in SIZES},
        "lie": lambda: HUGE.to_bytes(4, "little") + lz4_of(PAGE_SIZE),
    },
    ZSTD: zstd_forged(known=False),
    FILL: {str(size): partial(bytes, size) for size in (0, 7, 9, PAGE_SIZE)},
    ZSTD_DICTIONARY: zstd_forged(known=True),
    PLUGIN: {str(size): partial(plugin_of, size) for size in SIZES},
}
EVERY = [(codec, name) for codec, forged in FORGED.items() for name in forged]


def forged(codec: int, name: str) -> bytes:
    payload = FORGED[codec][name]()
    return bytes([NUMBER]) + payload if codec == ZSTD_DICTIONARY else payload


@pytest.fixture
def decoder() -> Decoder:
    registry = CodecRegistry()
    registry.register(a_codec(Deflate()), PLUGIN)
    decoder = Decoder(registry)
    decoder.learn(NUMBER, DICTIONARY)
    return decoder


@pytest.fixture
def tracing() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def resident(field: str) -> int:
    """Bytes; ``VmRSS`` is now, ``VmHWM`` the most since the last reset."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == field:
            return int(rest.split()[0]) * 1024
    raise AssertionError(field)


def taken_by(job: Callable[[], object]) -> int:
    """Bytes of Python's objects, or resident ones, that ``job`` needed at its peak."""
    Path("/proc/self/clear_refs").write_text("5")
    tracemalloc.reset_peak()
    objects, pages = tracemalloc.get_traced_memory()[0], resident("VmRSS")
    job()
    peak = tracemalloc.get_traced_memory()[1]
    return max(peak - objects, resident("VmHWM") - pages)


@pytest.mark.usefixtures("tracing")
@pytest.mark.parametrize(("codec", "name"), EVERY)
def test_a_forged_payload_is_corrupt_and_takes_no_memory(
    decoder: Decoder, codec: int, name: str
) -> None:
    payload = forged(codec, name)
    checks = [checksum_of(payload, codec), checksum_of(bytes(PAGE_SIZE), codec)]

    def decode() -> None:
        for check in checks:
            with pytest.raises(CorruptData):
                decoder.decode(payload, check, codec)

    assert taken_by(decode) < MIB


@pytest.mark.usefixtures("tracing")
@pytest.mark.parametrize("codec", [LZ4, ZSTD])
@pytest.mark.parametrize("size", SIZES)
def test_what_compresses_anew_takes_no_more(codec: int, size: int) -> None:
    payload = lz4_of(size) if codec == LZ4 else zstd_of(size, says_size=False)
    stored = checksum_of(payload, codec).to_bytes(CHECK_BYTES, "little") + payload
    recompressor = Recompressor(3)
    recompressor.warm_up(bytes(PAGE_SIZE))

    def shrink() -> None:
        assert recompressor.shrink([(codec, stored)], lambda: False) == [None]
        assert train(recompressor, [(codec, stored)]) is None

    assert taken_by(shrink) < MIB


@pytest.mark.usefixtures("tracing")
@pytest.mark.parametrize("name", FORGED[ZSTD_DICTIONARY])
def test_nor_does_leaving_a_dictionary(name: str) -> None:
    payload = forged(ZSTD_DICTIONARY, name)
    check = checksum_of(bytes(PAGE_SIZE), ZSTD_DICTIONARY).to_bytes(CHECK_BYTES, "little")
    repacker = Repacker(Recompressor(3), Dictionary(NUMBER, 1, DICTIONARY))
    shrink = partial(repacker.shrink, [(ZSTD_DICTIONARY, check + payload)], lambda: False)

    def leave() -> None:
        assert shrink() == [None]

    assert taken_by(leave) < MIB


@pytest.mark.parametrize("codec", [Lz4(), Zstd()], ids=["lz4", "zstd"])
@pytest.mark.parametrize("size", [1, PAGE_SIZE - 1])
def test_a_codec_gives_a_page_or_nothing(codec: Lz4 | Zstd, size: int) -> None:
    """Other callers than the decoder have no look at the length."""
    payload = lz4_of(size) if isinstance(codec, Lz4) else zstd_of(size, says_size=False)
    with pytest.raises(CorruptData, match="no page"):
        codec.decompressor()(payload)


def test_the_bombs_are_bombs() -> None:
    """They open where there is no bound."""
    assert len(lz4.block.decompress(lz4_of(HUGE, stores_size=True))) == HUGE
    frame = zstd_of(HUGE, says_size=True)
    assert len(zstandard.ZstdDecompressor(format=MAGICLESS).decompress(frame)) == HUGE
    assert len(zlib.decompress(forged(PLUGIN, str(HUGE))[CHECK_BYTES:])) == HUGE
    assert parse_compressor("zstd:3").compress(bytes(PAGE_SIZE))[:2] == bytes([0, 2 << 3])
