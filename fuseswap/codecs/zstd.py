"""zstd: frames without magic, sizes and checksum (pages have a check of their own).

So every frame begins with the same two bytes: a descriptor that is 0, since nothing optional is
there, and a window of 4 KiB.  Another descriptor may bring a size that zstd would allocate, and a
window byte may claim 128 MiB for the context; neither passes.
"""

from __future__ import annotations

from collections.abc import Callable

import zstandard

from fuseswap.codecs.codec import Buffer
from fuseswap.codecs.names import DEFAULT_LEVEL, MAX_LEVEL, ZSTD_NAME
from fuseswap.errors import CorruptData, InvalidArgument
from fuseswap.spelling import is_whole
from fuseswap.units import PAGE_SHIFT, PAGE_SIZE

# From here on a page is searched as follows where there is a dictionary.
SEARCHED_LEVEL = 12


class Zstd:
    """1 to 19; one decompressor serves every level."""

    name = ZSTD_NAME
    releases_gil = True

    def compressor(self, level: int | None) -> Callable[[Buffer], bytes]:
        """A context of 0.1 to 1 MiB."""
        level = DEFAULT_LEVEL if level is None else level
        if not 1 <= level <= MAX_LEVEL:
            raise InvalidArgument(f"zstd has levels 1 to {MAX_LEVEL}")
        return zstandard.ZstdCompressor(compression_params=parameters(level)).compress

    def decompressor(self) -> Callable[[bytes], bytes]:
        """A context of 0.1 MiB."""
        return opener(context_for(None))


def context_for(dictionary: zstandard.ZstdCompressionDict | None) -> zstandard.ZstdDecompressor:
    """What decompresses such frames, and allocates nothing for a window that is larger."""
    return zstandard.ZstdDecompressor(
        dict_data=dictionary,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        max_window_size=PAGE_SIZE,
    )


def parameters(level: int) -> zstandard.ZstdCompressionParameters:
    """Frames of one page with nothing in them that is the same for all."""
    return zstandard.ZstdCompressionParameters.from_level(
        level,
        source_size=PAGE_SIZE,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_content_size=False,
        write_checksum=False,
        write_dict_id=False,
    )


def parameters_with_dictionary(
    level: int, dictionary_bytes: int
) -> zstandard.ZstdCompressionParameters:
    """The same for pages with a dictionary, whose match tables have two words for each byte.

    zstd's own are for a source as small as a page, and so for a small part of a dictionary.  The
    frame's window stays that of a page.
    """
    if level < SEARCHED_LEVEL:
        return parameters(level)
    table_log = max(PAGE_SHIFT, (dictionary_bytes - 1).bit_length() + 1)
    return zstandard.ZstdCompressionParameters(
        window_log=PAGE_SHIFT,
        chain_log=table_log,
        hash_log=table_log,
        search_log=5,
        min_match=3,
        target_length=32,
        strategy=zstandard.STRATEGY_BTOPT,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_content_size=False,
        write_checksum=False,
        write_dict_id=False,
    )


def opener(decompressor: zstandard.ZstdDecompressor) -> Callable[[bytes], bytes]:
    """Frame -> 4096 bytes, for which no more are allocated; raises `CorruptData`."""
    decompress = decompressor.decompress

    def open_(frame: bytes) -> bytes:
        if not frame or frame[0]:  # something optional
            raise CorruptData("no frame of a page")
        try:
            page = decompress(frame, PAGE_SIZE)
        except zstandard.ZstdError as exc:
            raise CorruptData(str(exc)) from exc
        if len(page) != PAGE_SIZE:
            raise CorruptData(f"{len(page)} bytes are no page")
        return page

    return open_


def parse_recompressor(text: str) -> int:
    """Level of ``zstd[:LEVEL]``, 0 for ``none``; raises `InvalidArgument`."""
    family, colon, level = text.strip().partition(":")
    if family == "none" and not colon:
        return 0
    if family == "zstd" and not colon:
        return DEFAULT_LEVEL
    if family == "zstd" and is_whole(level) and 1 <= int(level) <= MAX_LEVEL:
        return int(level)
    raise InvalidArgument(
        f"'{text}' is not a recompressor; use none or zstd:LEVEL with LEVEL 1 to {MAX_LEVEL}"
    )
