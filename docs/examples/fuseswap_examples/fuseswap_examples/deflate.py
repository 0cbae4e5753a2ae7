"""A codec: zlib's deflate, levels 1 to 9.  At level 1 a page takes 98 us, and 10 us to open."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from fuseswap.codecs.codec import Buffer
from fuseswap.errors import CorruptData, InvalidArgument
from fuseswap.units import PAGE_SIZE

_RAW = -15  # neither header nor checksum: a page has one already


class Deflate:
    """``compressor=deflate`` or ``compressor=deflate:LEVEL``."""

    name = "deflate"
    releases_gil = True

    def compressor(self, level: int | None) -> Callable[[Buffer], bytes]:
        """Page -> payload."""
        if level is not None and not 1 <= level <= 9:
            raise InvalidArgument("deflate has levels 1 to 9")
        return lambda page: zlib.compress(page, 6 if level is None else level, _RAW)

    def decompressor(self) -> Callable[[bytes], bytes]:
        """Payload -> page, of at most 4096 bytes whatever the payload claims."""

        def open_(payload: bytes) -> bytes:
            try:
                return zlib.decompressobj(_RAW).decompress(payload, PAGE_SIZE)
            except zlib.error as exc:
                raise CorruptData(str(exc)) from None

        return open_
