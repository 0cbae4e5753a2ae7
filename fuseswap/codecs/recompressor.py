"""Compress pages again, as hard as it is worth: what a thread does, on copies.

Knows payloads and nothing of where they lie.  zstd and lz4 release the GIL.  A page costs about
110 us at level 6 and 800 at 12; the GIL is held for less than 5 of them.  One thread at a time: the
contexts of zstd are not to be shared.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import zstandard

from fuseswap.codecs.checksum import CHECK_BYTES, Decoder, checksum_of
from fuseswap.codecs.codec import MAX_COMPRESSED_BYTES, Buffer
from fuseswap.codecs.dictionary import Dictionary, compressor, raw_compressor
from fuseswap.codecs.registry import LAST_RAW, LZ4, RAW, ZSTD, ZSTD_DICTIONARY
from fuseswap.codecs.zstd import Zstd
from fuseswap.errors import CorruptData
from fuseswap.units import PAGE_SIZE

DICTIONARY_BYTES = (128 << 10) - 64  # what fits in a place of `dictionary_area.py`
# Segments of the content that go into a dictionary, and the length of what must match.
_COVER = {"k": 1024, "d": 8}
_COMPARE_EVERY = 32
# What part of a payload has to be won: less where loading it does not become slower.
_OF_OTHERS = 16
_OF_ZSTD = 64
_HELD_OUT_EVERY = 5


@dataclass(frozen=True, slots=True)
class Packed:
    """One payload, ready to be stored."""

    payload: bytes
    codec: int
    check: int


class Recompressor:
    """zstd at one level, with a dictionary where there is one.

    The thread makes the contexts, when it needs them first.  There may be no memory for them, and
    with a dictionary and a high level it takes 10 ms.
    """

    def __init__(self, level: int, dictionary: Dictionary | None = None) -> None:
        self.level = level
        self.dictionary = dictionary
        self._compare = itertools.cycle(range(_COMPARE_EVERY)).__next__
        # Bytes of the pages that were compressed both ways.
        self.plain_bytes = 0
        self.known_bytes = 0

    @cached_property
    def _plain(self) -> Callable[[Buffer], bytes]:
        return Zstd().compressor(self.level)

    @cached_property
    def _known(self) -> Callable[[Buffer], bytes] | None:
        return compressor(self.level, self.dictionary) if self.dictionary else None

    @cached_property
    def _decoder(self) -> Decoder:
        return Decoder()

    def warm_up(self, page: bytes) -> None:
        """Make what every object needs; what a dictionary takes is left to the thread."""
        packed = self._plain(page)
        self._decoder.decode(packed, checksum_of(packed, ZSTD), ZSTD)

    def shrink(
        self, objects: Sequence[tuple[int, bytes]], stop: Callable[[], bool]
    ) -> list[Packed | None]:
        """Each ``(codec, check and payload)`` made smaller enough, or None.

        A shorter list where ``stop`` said so; at least one.
        """
        packed: list[Packed | None] = []
        for codec, stored in objects:
            packed.append(self._shrink(codec, stored))
            if stop():
                break
        return packed

    def _shrink(self, codec: int, stored: bytes) -> Packed | None:
        page = self.open(codec, stored)
        if page is None:
            return None
        length = len(stored) - CHECK_BYTES
        least = length // (_OF_ZSTD if codec == ZSTD else _OF_OTHERS)
        most = min(length - least, MAX_COMPRESSED_BYTES)
        known = self._known(page) if self._known else None
        if known is None or self._compare() == 0:
            plain = self._plain(page)
            if known is not None:
                self.plain_bytes += len(plain)
                self.known_bytes += len(known)
            if known is None or len(plain) < len(known):
                fits = len(plain) <= most
                return Packed(plain, ZSTD, checksum_of(plain, ZSTD)) if fits else None
        if len(known) > most:
            return None
        return Packed(known, ZSTD_DICTIONARY, checksum_of(page, ZSTD_DICTIONARY))

    def smallest(self, page: bytes) -> Packed:
        """``page`` as small as it gets, or as it is."""
        plain = self._plain(page)
        known = self._known(page) if self._known else plain
        if min(len(plain), len(known)) > MAX_COMPRESSED_BYTES:
            return Packed(page, RAW, checksum_of(page, RAW))
        if len(known) < len(plain):
            return Packed(known, ZSTD_DICTIONARY, checksum_of(page, ZSTD_DICTIONARY))
        return Packed(plain, ZSTD, checksum_of(plain, ZSTD))

    def open(self, codec: int, stored: bytes) -> bytes | None:
        """The page of ``stored`` check and payload; None: corrupt, or nothing to recompress."""
        if codec > LAST_RAW and codec not in (LZ4, ZSTD):
            return None
        check = int.from_bytes(stored[:CHECK_BYTES], "little")
        try:
            return self._decoder.decode(stored[CHECK_BYTES:], check, codec)
        except CorruptData:
            return None


class Repacker:
    """Makes payloads that do not need the dictionary ``old`` of pages that do.

    With what `recompressor` compresses with: its dictionary or none, whichever is smaller.
    """

    def __init__(self, recompressor: Recompressor, old: Dictionary) -> None:
        self._compress = recompressor.smallest
        self._decoder = Decoder()
        self._decoder.learn(old.number, old.data)

    def shrink(
        self, objects: Sequence[tuple[int, bytes]], stop: Callable[[], bool]
    ) -> list[Packed | None]:
        """As `Recompressor.shrink`, but each that is sound, however large it becomes."""
        packed: list[Packed | None] = []
        for codec, stored in objects:
            check = int.from_bytes(stored[:CHECK_BYTES], "little")
            try:
                page = self._decoder.decode(stored[CHECK_BYTES:], check, codec)
            except CorruptData:
                packed.append(None)
            else:
                packed.append(self._compress(page))
            if stop():
                break
        return packed


@dataclass(frozen=True, slots=True)
class Trained:
    """A dictionary, and bytes of pages it was not trained on: without it (or with the one
    there is) and with it.
    """

    data: bytes
    held_out: int
    before_bytes: int
    after_bytes: int


def train(recompressor: Recompressor, objects: Sequence[tuple[int, bytes]]) -> Trained | None:
    """A dictionary from ``(codec, check and payload)`` each; None where they do not suffice.

    0.1 s for 512 pages, without the GIL.
    """
    trained = _trained(recompressor, objects)
    # The copy lies where samples were, and they leave no hole in the heap below it.
    return trained and replace(trained, data=bytes(memoryview(trained.data)))


def _trained(recompressor: Recompressor, objects: Sequence[tuple[int, bytes]]) -> Trained | None:
    try:
        opened = (recompressor.open(codec, stored) for codec, stored in objects)
        pages = [page for page in opened if page is not None]
        samples: list[bytes | bytearray | memoryview] = [
            page for number, page in enumerate(pages) if number % _HELD_OUT_EVERY
        ]
        held_out = pages[::_HELD_OUT_EVERY]
        data = zstandard.train_dictionary(DICTIONARY_BYTES, samples, **_COVER).as_bytes()
        level = recompressor.level
        compressors = [raw_compressor(level, data), Zstd().compressor(level)]
        if recompressor.dictionary:
            compressors.append(raw_compressor(level, recompressor.dictionary.data))
        after, *before = (
            sum(min(len(compress(page)), PAGE_SIZE) for page in held_out)
            for compress in compressors
        )
    except (zstandard.ZstdError, MemoryError):
        return None
    return Trained(data, len(held_out), min(before), after)
