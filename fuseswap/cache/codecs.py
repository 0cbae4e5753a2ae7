"""Codecs: one small operations table, indexed by the 4-bit codec of a slot word.

    0-3   raw: the page itself, 4096 bytes (it did not compress); the number counts the
          stores to this page since compressing it was last tried, so 0 is a fresh try
    4     lz4 block without its size
    5     zstd frame without magic, sizes and checksum (we keep our own)
    6     fill: 8 bytes, a same-filled word that fits in no slot word
    8-15  zstd frame of the same kind, with the dictionary in that place (``dictionaries.py``)

Which codec compresses is a run-time choice; every decompressor is always there,
so pages keep the codec they were stored with.  One decompressor serves every
zstd level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import lz4.block
import zstandard

from fuseswap.errors import CorruptData, InvalidArgument
from fuseswap.units import PAGE_SIZE

RAW = 0
LAST_RAW = 3
LZ4 = 4
ZSTD = 5
FILL = 6
FIRST_DICTIONARY = 8

# Saving less than 3 % is not worth a decompression at every load.
MAX_COMPRESSED_BYTES = 3968

_ZSTD_DEFAULT_LEVEL = 1
_ZSTD_MAX_LEVEL = 19

# Errors a decompressor raises on bytes that are not its own.
DECOMPRESS_ERRORS: tuple[type[Exception], ...] = (
    lz4.block.LZ4BlockError,
    zstandard.ZstdError,
    CorruptData,
    MemoryError,  # a frame that claims to be huge
    ValueError,
)


@dataclass(frozen=True, slots=True)
class Compressor:
    """What new pages are compressed with.

    ``compress`` takes a bytes-like page of 4096 bytes and returns its compressed
    bytes, possibly more than 4096; the caller decides what is worth keeping.
    """

    name: str
    codec: int
    compress: Callable[[bytes | memoryview], bytes]


def parse_compressor(name: str) -> Compressor:
    """``lz4``, ``zstd`` or ``zstd:LEVEL`` (1 to 19); raises `InvalidArgument`."""
    family, _, level = name.strip().partition(":")
    if family == "lz4" and not level:
        return Compressor("lz4", LZ4, _lz4_compress)
    if family == "zstd":
        number = int(level) if level.isdecimal() else _ZSTD_DEFAULT_LEVEL if not level else 0
        if 1 <= number <= _ZSTD_MAX_LEVEL and not name.strip().endswith(":"):
            return Compressor(f"zstd:{number}", ZSTD, _zstd_compressor(number))
    raise InvalidArgument(f"'{name}' is not a compressor; use lz4 or zstd:LEVEL with LEVEL 1 to 19")


def parse_recompressor(name: str) -> int:
    """Level of ``zstd[:LEVEL]``, 0 for ``none``; raises `InvalidArgument`."""
    if name.strip() == "none":
        return 0
    compressor = parse_compressor(name)
    if compressor.codec != ZSTD:
        raise InvalidArgument(f"'{name}' is not a recompressor; use none or zstd:LEVEL")
    return int(compressor.name.partition(":")[2])


def quick_recompressor() -> Callable[[bytes], bytes | None]:
    """Makes an lz4 payload smaller where somebody may wait, or returns None where it can't."""
    compressor = parse_compressor("zstd:1")

    def recompress(payload: bytes) -> bytes | None:
        try:
            harder = compressor.compress(_lz4_decompress(payload))
        except DECOMPRESS_ERRORS:
            return None
        return harder if len(harder) <= len(payload) - len(payload) // 16 else None

    return recompress


def _lz4_compress(page: bytes | memoryview) -> bytes:
    compressed: bytes = lz4.block.compress(page, store_size=False)
    return compressed


def zstd_parameters(level: int) -> zstandard.ZstdCompressionParameters:
    """Frames of one page with nothing in them that is the same for all."""
    return zstandard.ZstdCompressionParameters.from_level(
        level,
        source_size=PAGE_SIZE,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_content_size=False,
        write_checksum=False,
        write_dict_id=False,
    )


def _zstd_compressor(level: int) -> Callable[[bytes | memoryview], bytes]:
    return zstandard.ZstdCompressor(compression_params=zstd_parameters(level)).compress


def _raw(payload: bytes) -> bytes:
    return payload


def _lz4_decompress(payload: bytes) -> bytes:
    page: bytes = lz4.block.decompress(payload, PAGE_SIZE)
    return page


def zstd_decompressor() -> Callable[[bytes], bytes]:
    """Frames without a dictionary; not to be shared by threads."""
    decompressor = zstandard.ZstdDecompressor(format=zstandard.FORMAT_ZSTD1_MAGICLESS)
    return partial(decompressor.decompress, max_output_size=PAGE_SIZE)


def _fill(payload: bytes) -> bytes:
    return payload * (PAGE_SIZE // 8)


def _unknown(payload: bytes) -> bytes:
    raise CorruptData("no such codec")


_OTHERS = {LZ4: _lz4_decompress, ZSTD: zstd_decompressor(), FILL: _fill}

# payload -> page; raises one of DECOMPRESS_ERRORS.
DECOMPRESS: tuple[Callable[[bytes], bytes], ...] = tuple(
    _raw if codec <= LAST_RAW else _OTHERS.get(codec, _unknown) for codec in range(16)
)
