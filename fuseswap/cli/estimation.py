"""What pages would take in zram and here, and how long opening one takes: compressed to see.

zram is its compressor and the size classes of its allocator (``zsmalloc.py``).  We are what
``page_encoder.py`` makes of a page, then what ``recompressor.py`` does, with owner, check and slot
word.  The dictionary for one half of the sample is trained on the other half, so no page is
compressed with what it taught.

A mean of n pages chosen at random is off by 1.96 s / sqrt(n) at most, in 19 samples of 20.  A
ratio is off by the same of its residuals.  Duplicates are not looked for.  Dead room in segments is
not in it.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import zstandard

from fuseswap.cli.zsmalloc import object_bytes
from fuseswap.codecs.checksum import CHECK_BYTES, Decoder, checksum_of
from fuseswap.codecs.codec import MAX_COMPRESSED_BYTES
from fuseswap.codecs.dictionary import Dictionary
from fuseswap.codecs.lz4 import Lz4
from fuseswap.codecs.recompressor import Packed, Recompressor, train
from fuseswap.codecs.registry import LAST_RAW, LZ4, RAW, ZSTD
from fuseswap.codecs.zstd import Zstd
from fuseswap.frontswap.page_encoder import POOR_BYTES
from fuseswap.store.object_size import footprint
from fuseswap.units import PAGE_SIZE

ZRAM_LZ4 = "zram lz4"
ZRAM_ZSTD = "zram zstd"
AT_ONCE = "fuseswap at once"
COLD = "fuseswap when cold"

_Z = 1.96  # 19 of 20
_WORD_BYTES = 8
_ZRAM_LEVEL = 3  # the kernel's default of zstd
_COLD_LEVEL = 12  # as recomp_algorithm
_LEAST_TO_TRAIN = 512
_TIMED = 500  # pages


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of one way to keep all pages.

    ``taken_bytes`` is for all of them, ``off_bytes`` how far it may be off; ``of_zram`` and
    ``off_of_zram`` are of the bytes of zram with lz4.  ``open_us``: to decompress one page, the
    median; None where none is compressed.
    """

    name: str
    taken_bytes: int
    off_bytes: int
    of_zram: float
    off_of_zram: float
    open_us: float | None


@dataclass(slots=True)
class _Way:
    """Bytes of each page of the sample, and payloads with what opens them."""

    name: str
    sizes: list[float]
    opened: list[tuple[Callable[[bytes], object], bytes]]
    fixed_bytes: int = 0  # however many pages there are


def estimate(pages: Sequence[bytes], total: int) -> list[Estimate]:
    """For ``total`` pages of which ``pages`` are a sample, chosen at random; at least one."""
    unique = [page[8:] != page[:-8] for page in pages]  # not one word over and over
    ways = [_zram_lz4(pages, unique), _zram_zstd(pages, unique), *_fuseswap(pages, unique, total)]
    base = ways[0]
    return [_estimate(way, base, total) for way in ways]


def _estimate(way: _Way, base: _Way, total: int) -> Estimate:
    count = len(way.sizes)
    left_out = math.sqrt(1 - count / total)  # of a small process all pages are looked at
    mean, of = statistics.fmean(way.sizes), statistics.fmean(base.sizes)
    taken = mean * total + way.fixed_bytes
    ratio = taken / (of * total) if of else 1.0
    rest = [own - ratio * its for own, its in zip(way.sizes, base.sizes, strict=True)]
    off = _Z * left_out / math.sqrt(count)
    return Estimate(
        name=way.name,
        taken_bytes=round(taken),
        off_bytes=round(off * statistics.pstdev(way.sizes) * total),
        of_zram=ratio,
        off_of_zram=off * statistics.pstdev(rest) / of if of else 0.0,
        open_us=_median_us(way.opened[:_TIMED]),
    )


def _median_us(opened: Sequence[tuple[Callable[[bytes], object], bytes]]) -> float | None:
    """Of the quickest of three each: the machine does other things too."""
    times = []
    for open_, payload in opened:
        best = math.inf
        for _ in range(3):
            began = time.perf_counter()
            open_(payload)
            best = min(best, time.perf_counter() - began)
        times.append(best * 1e6)
    return statistics.median(times) if times else None


# -- zram --------------------------------------------------------------------------------


def _zram_lz4(pages: Sequence[bytes], unique: Sequence[bool]) -> _Way:
    return _zram(ZRAM_LZ4, Lz4().compressor(None), Lz4().decompressor(), pages, unique)


def _zram_zstd(pages: Sequence[bytes], unique: Sequence[bool]) -> _Way:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _ZRAM_LEVEL, source_size=PAGE_SIZE, write_content_size=True
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    decompressor = zstandard.ZstdDecompressor()
    return _zram(ZRAM_ZSTD, compressor.compress, decompressor.decompress, pages, unique)


def _zram(
    name: str,
    compress: Callable[[bytes], bytes],
    open_: Callable[[bytes], object],
    pages: Sequence[bytes],
    unique: Sequence[bool],
) -> _Way:
    """Same-filled pages are in zram's table, which is not counted."""
    way = _Way(name, [], [])
    for page, is_unique in zip(pages, unique, strict=True):
        if not is_unique:
            way.sizes.append(0)
            continue
        payload = compress(page)
        way.sizes.append(object_bytes(len(payload)))
        if way.sizes[-1] < PAGE_SIZE:
            way.opened.append((open_, payload))
    return way


# -- fuseswap ----------------------------------------------------------------------------


def _fuseswap(pages: Sequence[bytes], unique: Sequence[bool], total: int) -> list[_Way]:
    """At once, and when cold."""
    lz4, zstd = Lz4().compressor(None), Zstd().compressor(1)
    objects = [_at_once(page, lz4, zstd) for page, its in zip(pages, unique, strict=True) if its]
    cold, dictionary_bytes = _cold(objects, total * len(objects) // len(pages))
    ways = [_Way(AT_ONCE, [], []), _Way(COLD, [], [], dictionary_bytes)]
    for way, found in zip(ways, (objects, [one for one, _ in cold]), strict=True):
        payloads = iter(found)
        way.sizes = [
            _WORD_BYTES + (footprint(len(next(payloads).payload)) if its else 0) for its in unique
        ]
    plain = Decoder()
    ways[0].opened = [(_opener(plain, one), one.payload) for one in objects if one.codec > LAST_RAW]
    ways[1].opened = [
        (_opener(decoder, one), one.payload) for one, decoder in cold if one.codec > LAST_RAW
    ]
    return ways


def _opener(decoder: Decoder, packed: Packed) -> Callable[[bytes], object]:
    return lambda payload: decoder.decode(payload, packed.check, packed.codec)


def _at_once(page: bytes, lz4: Callable[[bytes], bytes], zstd: Callable[[bytes], bytes]) -> Packed:
    """As `PageEncoder.encode` has it."""
    payload, codec = lz4(page), LZ4
    if len(payload) > MAX_COMPRESSED_BYTES:
        payload, codec = page, RAW
    elif len(payload) >= POOR_BYTES:
        harder = zstd(page)
        if len(harder) < len(payload) - len(payload) // 16:
            payload, codec = harder, ZSTD
    return Packed(payload, codec, checksum_of(payload, codec))


def _cold(objects: Sequence[Packed], total: int) -> tuple[list[tuple[Packed, Decoder]], int]:
    """Each object recompressed, with what opens it; and the bytes of a dictionary, 0: none pays.

    ``total``: of such pages, for which the dictionary would be.
    """
    found: list[tuple[Packed, Decoder]] = [(one, Decoder()) for one in objects]
    plain = Recompressor(_COLD_LEVEL)
    stored = [
        (one.codec, one.check.to_bytes(CHECK_BYTES, "little") + one.payload) for one in objects
    ]
    data_bytes = 0
    for half in (0, 1):
        trained = None
        if len(objects) >= _LEAST_TO_TRAIN:
            trained = train(plain, stored[1 - half :: 2])
        decoder, recompressor = Decoder(), plain
        if trained is not None:
            won = (trained.before_bytes - trained.after_bytes) * total // trained.held_out
            if won >= 2 * len(trained.data):  # as `DictionaryPolicy.judge`
                recompressor = Recompressor(_COLD_LEVEL, Dictionary(0, 1, trained.data))
                decoder.learn(0, trained.data)
                data_bytes = max(data_bytes, len(trained.data))
        smaller = recompressor.shrink(stored[half::2], lambda: False)
        found[half::2] = [
            (new or old, decoder) for new, old in zip(smaller, objects[half::2], strict=True)
        ]
    return found, data_bytes
