"""Pages made of their size: 4096 bytes that lz4 makes as small as a trace says.

    +0     the hash, 8 bytes         so pages of one hash are alike, and no others
    +8     noise, as much as the size asks for, from a pool of 16 MiB at a place of the hash
    +2032  2 bytes of the hash       where the store looks for its sample of contents
    then   zeros

The noise has so few different bytes that zstd gains as much on lz4 as is asked for.  lz4 gains
nothing of that, since it looks for repetitions alone.  The pool is far larger than a dictionary.
With one of 8 KiB, as it once was, a dictionary had all of it: 29 MB became 0.7 MB.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from functools import lru_cache

import lz4.block

from fuseswap.codecs.zstd import Zstd
from fuseswap.units import MIB, PAGE_SIZE

_POOL_BYTES = 16 * MIB
_POOL_MASK = _POOL_BYTES - 1
_SPREAD = 0x9E3779B97F4A7C15
_SHIFT = 40  # the low bits of a product depend on the low bits of a hash alone
_STEP = 16
_MOST_NOISE = PAGE_SIZE - 8
_SAMPLE_AT = 2032
_NOISE_TO_SAMPLE = _SAMPLE_AT - 8
_NOISE_WITH_SAMPLE = _NOISE_TO_SAMPLE + 2
_ZEROS = bytes(PAGE_SIZE)
# How many different bytes: the gain is that of 8 bits on their logarithm.
_ALPHABETS = (256, 224, 192, 160, 144, 128, 112, 96, 80, 64, 56, 48, 40, 32, 28, 24, 20, 16)
_LEVEL = 12  # of zstd, as recompression has it
_TRIED = 1600  # bytes of noise


def same_filled(word: int) -> bytes:
    """4096 bytes of one word of 64 bits."""
    return word.to_bytes(8, "little") * (PAGE_SIZE // 8)


def half_word(number: int) -> int:
    """A word that is 32 bits of ``number`` twice: a slot word has room for it."""
    return (number & 0xFFFFFFFF) * 0x1_0000_0001


class Contents:
    """Pages that zstd makes ``gain_percent`` smaller than lz4, 0 to 45, a few more or less."""

    def __init__(self, gain_percent: int = 0) -> None:
        self._pool = _pool(_alphabet_for(gain_percent))
        self._sizes = self._lz4_sizes()

    def page_of(self, number: int, noise_bytes: int) -> bytes:
        """4096 bytes; ``number``: the hash, 64 bits; ``noise_bytes`` 0 to 4088."""
        return _page_of(self._pool, number, noise_bytes)

    def noise_for(self, size: int) -> int:
        """How much noise makes lz4 give ``size`` bytes, 8 or so more or less; above 4040: all."""
        at = bisect_left(self._sizes, size)
        return _MOST_NOISE if at == len(self._sizes) else at * _STEP

    def _lz4_sizes(self) -> list[int]:
        """What lz4 makes of more and more noise, by steps of `_STEP`; it never goes down."""
        found: list[int] = []
        for noise in range(0, _MOST_NOISE, _STEP):
            size = len(lz4.block.compress(self.page_of(_SPREAD, noise), store_size=False))
            found.append(max(size, found[-1] if found else 0))
        return found


def _page_of(pool: bytes, number: int, noise_bytes: int) -> bytes:
    start = (number * _SPREAD >> _SHIFT) & _POOL_MASK
    head = number.to_bytes(8, "little")
    noise = pool[start : start + noise_bytes]
    if noise_bytes >= _NOISE_WITH_SAMPLE:
        return b"".join((head, noise, _ZEROS[: _MOST_NOISE - noise_bytes]))
    if noise_bytes > _NOISE_TO_SAMPLE:
        noise = noise[:_NOISE_TO_SAMPLE]
    gap = _ZEROS[: _NOISE_TO_SAMPLE - len(noise)]
    return b"".join((head, noise, gap, head[2:4], _ZEROS[: PAGE_SIZE - _SAMPLE_AT - 2]))


@lru_cache(maxsize=2)
def _pool(alphabet: int) -> bytes:
    """Noise of so many different bytes, and as much behind it as the last page needs."""
    noise = random.Random(20240229).randbytes(_POOL_BYTES)
    few = noise.translate(bytes(byte * alphabet >> 8 for byte in range(256)))
    return few + few[:PAGE_SIZE]


@lru_cache(maxsize=64)
def _alphabet_for(gain_percent: int) -> int:
    """The one with which zstd gains that, or comes next to it."""
    if not gain_percent:
        return _ALPHABETS[0]
    return min(_ALPHABETS, key=lambda alphabet: abs(_gain(alphabet) - gain_percent))


def _gain(alphabet: int) -> float:
    """Percent that zstd makes of what lz4 makes."""
    compress = Zstd().compressor(_LEVEL)
    few = bytes(byte * alphabet >> 8 for byte in range(256))
    pages = [
        number.to_bytes(8, "little")
        + random.Random(number).randbytes(_TRIED).translate(few)
        + _ZEROS[: _MOST_NOISE - _TRIED]
        for number in range(1, 5)
    ]
    before = sum(len(lz4.block.compress(page, store_size=False)) for page in pages)
    return 100 - 100 * sum(len(compress(page)) for page in pages) / before
