"""What a page becomes: a word, an object that is there already, or a payload to be appended.

A choice for each page, by what it is: same-filled, a duplicate, incompressible a moment ago,
poorly done by lz4, or just a page.  Touches nothing, but that an object that is shared is
counted once more.
"""

from __future__ import annotations

import logging
import struct
from dataclasses import dataclass
from typing import Final, final

import xxhash

from fuseswap.codecs.checksum import Decoder, checksum_of
from fuseswap.codecs.codec import MAX_COMPRESSED_BYTES
from fuseswap.codecs.lz4 import Lz4
from fuseswap.codecs.registry import FILL, LAST_RAW, LZ4, RAW, ZSTD, CodecRegistry
from fuseswap.counting import counter, zeros
from fuseswap.dedup.policy import SAMPLE_DIVISOR, SAMPLE_REST, Dedup, Mode
from fuseswap.errors import CompressesPoorly, StoreRefused
from fuseswap.store.page_reader import PageReader
from fuseswap.store.segment_log import SegmentLog
from fuseswap.store.slot_table import SlotTable
from fuseswap.store.slot_word import CODEC_SHIFT, OBJECT, as_stored, codec_of, fill_word
from fuseswap.units import PAGE_SIZE, PageNumber

log = logging.getLogger(__name__)

# What lz4 makes no smaller than this is worth a try of zstd at once: 3 % of real pages, which
# take 5 % of the memory, and a third less with it.
POOR_BYTES: Final = 2816
_ON: Final = Mode.ON

# Of a slot word: is it a raw object, and when was compressing it last tried?
_DENIED_MASK: Final = OBJECT | (0xF & ~LAST_RAW) << CODEC_SHIFT
_TRIES_MASK: Final = LAST_RAW << CODEC_SHIFT

_three: Final = struct.Struct("<Q2024xH2054xQ").unpack_from
_digest: Final = xxhash.xxh3_64_digest


def _repeats(data: bytes | memoryview, fill: int) -> bool:
    """Whether ``data`` is nothing but the 64-bit ``fill``."""
    return bytes(data) == fill.to_bytes(8, "little") * (PAGE_SIZE // 8)


@dataclass(slots=True)
class EncodingCounters:
    """What became of pages that do not compress."""

    reject_compress_poor: int = counter(
        "Stores that did not compress; they were kept raw, or written to their places.",
        like="zswap",
        after="pool_limit_hit",
    )
    compress_skipped: int = counter(
        "Stores kept raw untried, since the page did not compress a moment ago."
    )


@final
class PageEncoder:
    """Compressor, switches and index of contents."""

    def __init__(
        self,
        slots: SlotTable,
        segment_log: SegmentLog,
        reader: PageReader,
        dedup: Dedup,
        codecs: CodecRegistry,
        compressor: str,
    ) -> None:
        self._slots = slots
        self._log = segment_log
        self._reader = reader
        self.dedup = dedup
        self._codecs = codecs
        self.set_compressor(compressor)
        self.same_filled_pages_enabled = True
        self.non_same_filled_pages_enabled = True
        self._max_ratio = 100
        self._most_bytes = MAX_COMPRESSED_BYTES
        self.counters = zeros(EncodingCounters)

    def set_compressor(self, name: str) -> None:
        """Compress new pages with ``name``; raises `InvalidArgument`."""
        self.compressor = self._codecs.compressor(name)
        self._compress = self.compressor.compress
        self._codec = self.compressor.codec
        poor = self._codecs.compressor("zstd:1") if self._codec == LZ4 else None
        self._compress_poor = poor.compress if poor else None

    def warm_up(self, page: bytes, decoder: Decoder) -> None:
        """Compress ``page`` as pages will be, and have ``decoder`` open every codec's payloads.

        Nothing is stored.  A codec that fails is logged, and stays: so will its pages.
        """
        self._compress(page)
        if self._compress_poor is not None:
            self._compress_poor(page)
        for name in self._codecs.names:
            try:
                one = self._codecs.compressor(name)
                payload = one.compress(page)
                decoder.decode(payload, checksum_of(payload, one.codec), one.codec)
            except Exception as exc:
                log.error("codec '%s' does not work: %s", name, exc)

    @property
    def max_compression_ratio(self) -> int:
        """Percent of a page: what compresses to more is refused.  100: nothing is."""
        return self._max_ratio

    @max_compression_ratio.setter
    def max_compression_ratio(self, percent: int) -> None:
        self._max_ratio = percent
        self._most_bytes = min(percent * PAGE_SIZE // 100, MAX_COMPRESSED_BYTES)

    def encode(
        self, page: PageNumber, data: bytes | memoryview, old: int
    ) -> tuple[int, bytes, int]:
        """What ``data`` becomes: ``(word, payload, codec)``.

        The word is 0 for a new object; the payload is empty for one that is shared, and counted.
        """
        first, middle, last = _three(data)
        if first == last and self.same_filled_pages_enabled and _repeats(data, first):
            return fill_word(first), first.to_bytes(8, "little"), FILL
        if not self.non_same_filled_pages_enabled:
            raise StoreRefused("non_same_filled_pages_enabled is off")
        mode = self.dedup.mode
        if mode and (mode is _ON or middle % SAMPLE_DIVISOR == SAMPLE_REST):
            word = self._share(page, data, old)
            if word:
                return word, b"", FILL
        if old & _DENIED_MASK == OBJECT and old & _TRIES_MASK != _TRIES_MASK:
            # It did not compress when it was last tried; a few stores later, try again.
            return 0, bytes(data), codec_of(old) + 1
        payload = self._compress(data)
        length = len(payload)
        if length <= self._most_bytes:
            if length >= POOR_BYTES and self._compress_poor is not None:
                harder = self._compress_poor(data)
                if len(harder) < length - length // 16:
                    return 0, harder, ZSTD
            return 0, payload, self._codec
        if self.compressor.is_set_aside:
            self.set_compressor(Lz4.name)
        if self._max_ratio < 100:
            self.counters.reject_compress_poor += 1
            raise CompressesPoorly(f"a page compresses to {len(payload)} bytes")
        return 0, bytes(data), RAW

    def _share(self, page: PageNumber, data: bytes | memoryview, old: int) -> int:
        """The word of an object in memory that holds ``data``, counted once more; or 0."""
        other = self.dedup.candidate(page, _digest(data))
        if other < 0 or other >= self._slots.page_count:
            return 0
        word = old if other == page else self._slots.get(other)  # its own may be cleared by now
        if other == page and RAW < codec_of(word) <= LAST_RAW:
            return 0  # kept raw untried: some day it is tried
        if self._reader.contents_of(word) != bytes(data) or not self._log.share(word):
            return 0
        self.dedup.hits += other != page  # the same again in its place saves no memory
        return as_stored(word)

    def count_raw(self, codec: int) -> None:
        """A page was stored as it is."""
        self.counters.reject_compress_poor += codec == RAW
        self.counters.compress_skipped += codec != RAW
