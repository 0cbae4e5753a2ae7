"""lz4: a block without its size, which is that of a page."""

from __future__ import annotations

from collections.abc import Callable

import lz4.block

from fuseswap.codecs.codec import Buffer
from fuseswap.codecs.names import LZ4_NAME
from fuseswap.errors import CorruptData, InvalidArgument
from fuseswap.units import PAGE_SIZE


class Lz4:
    """The default: 5 us a page to compress, 2 us to decompress."""

    name = LZ4_NAME
    releases_gil = True

    def compressor(self, level: int | None) -> Callable[[Buffer], bytes]:
        """Has no state, so one serves every thread."""
        if level is not None:
            raise InvalidArgument("lz4 has no levels")
        return _compress

    def decompressor(self) -> Callable[[bytes], bytes]:
        """Has no state either."""
        return _decompress


def _compress(page: Buffer) -> bytes:
    payload: bytes = lz4.block.compress(page, store_size=False)
    return payload


def _decompress(payload: bytes) -> bytes:
    try:
        page: bytes = lz4.block.decompress(payload, PAGE_SIZE)
    except lz4.block.LZ4BlockError as exc:
        raise CorruptData(str(exc)) from exc
    if len(page) != PAGE_SIZE:
        raise CorruptData(f"{len(page)} bytes are no page")
    return page
