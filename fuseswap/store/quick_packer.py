"""The quick packer: compresses an object again on its way to a tier, in the serving thread.

lz4 objects alone, with zstd:1, 15 us each.  A corrupt object is left as it is, and stays corrupt.
"""

from __future__ import annotations

from collections.abc import Callable

from fuseswap.codecs.checksum import CHECK_BYTES, Decoder, checksum_of
from fuseswap.codecs.lz4 import Lz4
from fuseswap.codecs.recompressor import Packed
from fuseswap.codecs.registry import LZ4, ZSTD
from fuseswap.codecs.zstd import Zstd
from fuseswap.errors import CorruptData
from fuseswap.store.segment_log import SegmentLog
from fuseswap.store.slot_table import SlotTable
from fuseswap.store.slot_word import codec_of, is_object_of
from fuseswap.units import SegmentId

_TRIED = 4  # objects, to see whether recompressing a segment gains anything


class QuickPacker:
    """Makes objects in memory smaller, unless it is switched off."""

    def __init__(self, slots: SlotTable, log: SegmentLog, decoder: Decoder) -> None:
        self._slots = slots
        self._log = log
        self._decoder = decoder
        self._compress: Callable[[bytes], bytes | None] | None = None

    @property
    def is_on(self) -> bool:
        """Whether it makes anything smaller."""
        return self._compress is not None

    def switch(self, on: bool) -> None:
        """Have it work from now on, or not."""
        self._compress = _quick() if on else None

    def warm_up(self, page: bytes) -> None:
        """Have what compresses make its tables now."""
        if self._compress is not None:
            self._compress(Lz4().compressor(None)(page))

    def pack(self, word: int) -> Packed | None:
        """The object of ``word``, made smaller; None where it stays as it is."""
        if codec_of(word) != LZ4 or self._compress is None:
            return None
        stored = self._log.stored(word)
        if not self._decoder.is_sound(stored, LZ4):
            return None
        harder = self._compress(stored[CHECK_BYTES:])
        return Packed(harder, ZSTD, checksum_of(harder, ZSTD)) if harder else None

    def gains(self, segment: SegmentId) -> bool:
        """Whether some objects of a segment in memory can be made smaller: a few are tried."""
        if self._compress is None or self._log.table.is_recompressed(segment):
            return False
        tried = 0
        for page in self._log.owners(segment):
            word = self._slots.get(page) if page < self._slots.page_count else 0
            if is_object_of(word, segment):
                if self.pack(word) is not None:
                    return True
                tried += 1
                if tried == _TRIED:
                    break
        return False


def _quick() -> Callable[[bytes], bytes | None]:
    """Makes an lz4 payload smaller, or returns None where it can't."""
    compress, decompress = Zstd().compressor(1), Lz4().decompressor()

    def recompress(payload: bytes) -> bytes | None:
        try:
            harder = compress(decompress(payload))
        except CorruptData:
            return None
        return harder if len(harder) <= len(payload) - len(payload) // 16 else None

    return recompress
