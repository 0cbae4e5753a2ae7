"""A codec from outside, for tests."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from fuseswap.codecs.codec import Buffer
from fuseswap.errors import CorruptData, InvalidArgument
from fuseswap.units import PAGE_SIZE


class Deflate:
    """zlib, with levels 0 to 9."""

    releases_gil = True

    def __init__(self, name: str = "deflate") -> None:
        self.name = name

    def compressor(self, level: int | None) -> Callable[[Buffer], bytes]:
        if level is not None and level > 9:
            raise InvalidArgument("deflate has levels 0 to 9")
        return lambda page: zlib.compress(page, 6 if level is None else level)

    def decompressor(self) -> Callable[[bytes], bytes]:
        return self._open

    def _open(self, payload: bytes) -> bytes:
        try:
            return zlib.decompressobj().decompress(payload, PAGE_SIZE)
        except zlib.error as exc:
            raise CorruptData(str(exc)) from exc
