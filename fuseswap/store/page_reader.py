"""What a slot word leads to: the load half of ``compressed_cache.py``.

Hits are answered here in one piece.  A page on a tier is `Deferred`, and comes back through
`finish_load`.  Nothing here changes what is stored, but for the R bit.
"""

from __future__ import annotations

import logging
import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, final

import lz4.block
import xxhash

from fuseswap.codecs.checksum import CHECK_BYTES, Decoder
from fuseswap.codecs.registry import FILL, LZ4
from fuseswap.counting import counter, zeros
from fuseswap.errors import CorruptData, Deferred
from fuseswap.store.segment_log import SegmentLog
from fuseswap.store.slot_table import CLUSTER_SHIFT, SlotTable
from fuseswap.store.slot_word import (
    CODEC_MASK,
    CODEC_SHIFT,
    LENGTH_MASK,
    LENGTH_SHIFT,
    LOADED,
    MODULUS,
    OBJECT,
    OFFSET_MASK,
    OFFSET_SHIFT,
    REFERENCED,
    SEGMENT_ID_MASK,
    SEGMENT_ID_SHIFT,
    ZERO_FILLED,
    codec_of,
    fill_of,
    is_corrupt,
    is_impossible_fill,
    is_object,
    is_same_object,
    length_of,
    offset_of,
    segment_of,
)
from fuseswap.units import PAGE_SIZE, Location, PageNumber, SegmentRef

log = logging.getLogger(__name__)

ZERO_PAGE: Final = bytes(PAGE_SIZE)
_LOGGED_ERRORS: Final = 20

_CODEC_BITS: Final = CODEC_MASK << CODEC_SHIFT
_LZ4_BITS: Final = LZ4 << CODEC_SHIFT

_u32: Final = struct.Struct("<I").unpack_from
_lz4: Final = lz4.block.decompress
_Lz4Error = lz4.block.LZ4BlockError
_checksum: Final = xxhash.xxh3_64_intdigest


class Missing(Protocol):
    """What a load from a tier is of."""

    page: PageNumber
    word: int
    ref: SegmentRef
    location: Location
    length: int


# Makes the `Deferred` of one: from `finish_load`, page, word, segment, location, offset, length.
Defer = Callable[
    [Callable[..., "bytes | None"], PageNumber, int, SegmentRef, Location, int, int], Deferred
]


def no_reader(
    finish: Callable[..., bytes | None],
    page: PageNumber,
    word: int,
    ref: SegmentRef,
    location: Location,
    offset: int,
    length: int,
) -> Deferred:
    """Of a cache without tiers."""
    return Deferred(f"page {page} is on tier {location.tier}")


@dataclass(slots=True)
class LoadingCounters:
    """What loads add to."""

    checksum_errors: int = counter(
        "Loads that found corrupt data and gave EIO.", after="recompressed_bytes_after"
    )


@final
class PageReader:
    """Reads pages by the words of ``slots``, out of the segments of ``log``."""

    def __init__(
        self,
        slots: SlotTable,
        segment_log: SegmentLog,
        arena: mmap.mmap,
        decoder: Decoder,
        defer: Defer,
    ) -> None:
        self._slots = slots
        self._words, self._used = slots.words, slots.used  # hot: one look-up less
        self._log = segment_log
        self._arena = arena
        self._decoder = decoder
        self._defer = defer
        self.counters = zeros(LoadingCounters)

    def load(self, page: PageNumber, word: int) -> bytes:
        """The 4096 bytes of ``page``, whose word is ``word``.

        Raises `CorruptData`, or `Deferred` where it has to be read.
        """
        if not word & OBJECT or word % MODULUS:
            return self._load_fill(page, word)
        try:
            base = self._log.table.bases[word >> SEGMENT_ID_SHIFT & SEGMENT_ID_MASK]
        except IndexError:
            base = -1
        if base < 0:
            raise self._miss(page, word)
        arena = self._arena
        at = base + (word >> OFFSET_SHIFT & OFFSET_MASK)
        start = at + CHECK_BYTES
        payload = arena[start : start + (word >> LENGTH_SHIFT & LENGTH_MASK) + 1]
        check = _u32(arena, at)[0]
        if word & _CODEC_BITS == _LZ4_BITS and _checksum(payload, LZ4) & 0xFFFFFFFF == check:
            # By far the most common: one call less.  The check is no proof, since it has no key.
            try:
                data: bytes = _lz4(payload, PAGE_SIZE)
            except _Lz4Error as exc:
                raise self.corrupt(page, word, str(exc)) from exc
            if len(data) != PAGE_SIZE:
                raise self.corrupt(page, word, f"{len(data)} bytes are no page")
        else:
            data = self._decode(page, word, payload, check)
        if not word & REFERENCED:
            self._words[page] = word + LOADED  # crash point: load-mark
        return data

    def finish_load(self, load: Missing, stored: bytes, *, final: bool = True) -> bytes | None:
        """The page of ``load`` from the ``stored`` bytes (check and payload) a tier returned.

        None where the page changed, or its segment moved, meanwhile: load it again.  Raises
        `CorruptData`, which counts only where it is ``final``: the tier may be asked for the
        bytes once more.
        """
        page, word = load.page, load.word
        now = self._words[page] if self._used[page >> CLUSTER_SHIFT] else 0
        if not is_same_object(now, word) or not self._log.table.is_at(load.ref, load.location):
            return None
        if len(stored) != load.length:
            reason = f"{len(stored)} of {load.length} bytes read"
            raise self.corrupt(page, word, reason, final)
        return self._decode(page, word, stored[CHECK_BYTES:], _u32(stored)[0], final)

    def decode(self, page: PageNumber, word: int) -> bytes:
        """The 4096 bytes of an object in memory, without a trace; raises `CorruptData`."""
        if not is_object(word) or is_corrupt(word):
            raise CorruptData(f"page {page}: not an object")
        start = self._log.table.bases[segment_of(word)] + offset_of(word)
        end = start + CHECK_BYTES + length_of(word)
        payload = self._arena[start + CHECK_BYTES : end]
        return self._decode(page, word, payload, _u32(self._arena, start)[0])

    def contents_of(self, word: int) -> bytes | None:
        """The 4096 bytes of an object in memory, without a trace.

        None for a fill, for what is corrupt, and for what is not in memory.
        """
        if not is_object(word) or is_corrupt(word):
            return None
        segment, codec = segment_of(word), codec_of(word)
        if (
            segment >= len(self._log.table.bases)
            or self._log.table.bases[segment] < 0
            or codec == FILL
        ):
            return None
        stored = self._log.stored(word)
        try:
            return self._decoder.decode(stored[CHECK_BYTES:], _u32(stored)[0], codec)
        except CorruptData:
            return None

    def _decode(
        self, page: PageNumber, word: int, payload: bytes, check: int, final: bool = True
    ) -> bytes:
        """Verify and decompress; raises `CorruptData`."""
        try:
            return self._decoder.decode(payload, check, codec_of(word))
        except CorruptData as exc:
            raise self.corrupt(page, word, str(exc), final) from exc

    def _miss(self, page: PageNumber, word: int) -> Deferred | CorruptData:
        """The error for an object that is in no frame."""
        found = self._log.table.on_tier(word >> SEGMENT_ID_SHIFT & SEGMENT_ID_MASK)
        if found is None:
            return self.corrupt(page, word, "no such segment")
        ref, location = found
        offset, length = word >> OFFSET_SHIFT & OFFSET_MASK, word >> LENGTH_SHIFT & LENGTH_MASK
        return self._defer(
            self.finish_load, page, word, ref, location, offset, CHECK_BYTES + length + 1
        )

    def _load_fill(self, page: PageNumber, word: int) -> bytes:
        """A same-filled page, or `CorruptData`."""
        if word == ZERO_FILLED:
            return ZERO_PAGE
        if is_corrupt(word) or is_impossible_fill(word):
            raise self.corrupt(page, word, "impossible slot word")
        return fill_of(word).to_bytes(8, "little") * (PAGE_SIZE // 8)

    def corrupt(self, page: PageNumber, word: int, reason: str, final: bool = True) -> CorruptData:
        """Count, log and build the error of a page that cannot be trusted."""
        self.counters.checksum_errors += final
        if final and self.counters.checksum_errors <= _LOGGED_ERRORS:
            log.error("page %d is corrupt (slot word %#x): %s", page, word, reason)
        return CorruptData(f"page {page}: {reason}")
