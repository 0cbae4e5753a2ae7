"""The check before each object, and what is done with it: verify, then decompress.

4 bytes of xxh3 with the codec as seed: of the payload, but of the page where a dictionary
took part, so that a wrong dictionary is found as well.
``pool.py`` computes checks for itself: it does so for every page.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import xxhash

from fuseswap.cache.codecs import DECOMPRESS, DECOMPRESS_ERRORS, FIRST_DICTIONARY
from fuseswap.errors import CorruptData

CHECK_BYTES = 4

_checksum = xxhash.xxh3_64_intdigest
_check = struct.Struct("<I").unpack_from


def checksum_of(checked: bytes, codec: int) -> int:
    """The 32-bit check of a payload, or of a page; the codec is part of it."""
    return int(_checksum(checked, codec)) & 0xFFFFFFFF


class Decoder:
    """Turns payloads into pages, with the dictionaries it has learned."""

    def __init__(self) -> None:
        self._open = list(DECOMPRESS)

    def learn(self, codec: int, open_: Callable[[bytes], bytes]) -> None:
        """Payloads of ``codec`` become pages by ``open_`` from here on."""
        self._open[codec] = open_

    def decode(self, payload: bytes, check: int, codec: int) -> bytes:
        """The 4096 bytes of an object; raises `CorruptData`."""
        by_page = codec >= FIRST_DICTIONARY
        if not by_page and _checksum(payload, codec) & 0xFFFFFFFF != check:
            raise CorruptData("checksum mismatch")
        try:
            page = self._open[codec](payload)
        except DECOMPRESS_ERRORS as exc:
            raise CorruptData(str(exc)) from exc
        if by_page and _checksum(page, codec) & 0xFFFFFFFF != check:
            raise CorruptData("checksum mismatch")
        return page

    def is_sound(self, stored: bytes, codec: int) -> bool:
        """Whether the check in ``stored`` is right for the payload behind it."""
        if len(stored) <= CHECK_BYTES:
            return False
        payload, check = stored[CHECK_BYTES:], _check(stored)[0]
        if codec < FIRST_DICTIONARY:
            return bool(checksum_of(payload, codec) == check)
        try:
            self.decode(payload, check, codec)
        except CorruptData:
            return False
        return True
