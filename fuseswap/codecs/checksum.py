"""The check before each object: verify, then decompress.

It is 4 bytes of xxh3, with the codec as seed.  It is of the payload, but of the page where a
dictionary took part: a wrong dictionary is found as well.  ``compressed_cache.py`` computes checks
for itself, since it does so for every page.
"""

from __future__ import annotations

import struct
from typing import Final

import xxhash

from fuseswap.codecs.codec import CHECK_BYTES as CHECK_BYTES
from fuseswap.codecs.dictionary import ByDictionary
from fuseswap.codecs.registry import ZSTD_DICTIONARY, CodecRegistry
from fuseswap.errors import CorruptData
from fuseswap.units import PAGE_SIZE

_checksum: Final = xxhash.xxh3_64_intdigest
_check: Final = struct.Struct("<I").unpack_from


def checksum_of(checked: bytes, codec: int) -> int:
    """The 32-bit check of a payload, or of a page; the codec is part of it."""
    return int(_checksum(checked, codec)) & 0xFFFFFFFF


class Decoder:
    """Turns payloads into pages, with contexts of its own: one for each thread."""

    def __init__(self, registry: CodecRegistry | None = None) -> None:
        """With the codecs of ``registry``, those that are always there by default."""
        self._by_dictionary = ByDictionary()
        self._open = (registry or CodecRegistry()).decompressors()
        self._open[ZSTD_DICTIONARY] = self._by_dictionary
        self.learn = self._by_dictionary.learn

    def decode(self, payload: bytes, check: int, codec: int) -> bytes:
        """The 4096 bytes of an object; raises `CorruptData`."""
        by_page = codec == ZSTD_DICTIONARY
        if not by_page and _checksum(payload, codec) & 0xFFFFFFFF != check:
            raise CorruptData("checksum mismatch")
        try:
            page = self._open[codec](payload)
            length = len(page)
        except Exception as exc:  # of other people's codecs, whatever it is
            raise CorruptData(str(exc)) from exc
        if length != PAGE_SIZE:
            raise CorruptData(f"{length} bytes are no page")
        if by_page and _checksum(page, codec) & 0xFFFFFFFF != check:
            raise CorruptData("checksum mismatch")
        return page

    def is_sound(self, stored: bytes, codec: int) -> bool:
        """Whether the check in ``stored`` is right for the payload behind it."""
        if len(stored) <= CHECK_BYTES:
            return False
        payload, check = stored[CHECK_BYTES:], _check(stored)[0]
        if codec != ZSTD_DICTIONARY:
            return bool(checksum_of(payload, codec) == check)
        try:
            self.decode(payload, check, codec)
        except CorruptData:
            return False
        return True
