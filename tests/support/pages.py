"""Pages to store: one maker for each way a page can be kept.

All are functions of their arguments alone, so a failing test can be run again, and a page is drawn
once in a process: many tests store the same ones.
"""

from __future__ import annotations

import random
from functools import lru_cache

import lz4.block

from fuseswap.units import PAGE_SIZE

FITS = 0x0000_000F_1234_5678  # 36 bits: fits in a slot word
REPEATS_32 = 0xDEAD_BEEF_DEAD_BEEF  # a 32-bit word twice: fits as well
FITS_NOT = 0x0123_4567_89AB_CDEF  # becomes an object of 8 bytes

ZERO = bytes(PAGE_SIZE)

_drawn_once = lru_cache(4096)


def filled(fill: int) -> bytes:
    """One 64-bit word, repeated."""
    return fill.to_bytes(8, "little") * (PAGE_SIZE // 8)


@_drawn_once
def compressible(seed: int) -> bytes:
    """Like a page of records: few distinct words in a random order."""
    chance = random.Random(seed)
    words = [chance.randbytes(8) for _ in range(16)]
    return b"".join(chance.choices(words, k=PAGE_SIZE // 8))


@_drawn_once
def hexadecimal(seed: int, count: int = PAGE_SIZE // 2) -> bytes:
    """Half a page of hexadecimal digits: lz4 finds little in it, zstd half."""
    digits = bytes(random.Random(seed).choices(b"0123456789abcdef", k=count))
    return digits + bytes(PAGE_SIZE - len(digits))


# What pages of one program have in common, and a dictionary knows.
PHRASES = [random.Random(number).randbytes(32) for number in range(400)]


@_drawn_once
def related(seed: int) -> bytes:
    """Half a page of phrases that other such pages have as well, in another order."""
    return b"".join(random.Random(seed).choices(PHRASES, k=64)) + bytes(PAGE_SIZE // 2)


@_drawn_once
def incompressible(seed: int) -> bytes:
    """Random bytes."""
    return random.Random(seed).randbytes(PAGE_SIZE)


def nearly_incompressible(seed: int, random_bytes: int = 3940) -> bytes:
    """Random bytes, then zeros: with 3940 of them compressing just about pays."""
    return random.Random(seed).randbytes(random_bytes) + bytes(PAGE_SIZE - random_bytes)


def compressing_to(length: int) -> bytes:
    """A page that lz4 turns into just ``length`` bytes."""
    for random_bytes in range(length, 0, -1):
        page = nearly_incompressible(length, random_bytes)
        if len(lz4.block.compress(page, store_size=False)) == length:
            return page
    raise AssertionError(f"no page compresses to {length} bytes")


# Name -> page, for tests that want one of each.
CORPUS = {
    "zero": ZERO,
    "fill_fits": filled(FITS),
    "fill_repeats_32_bits": filled(REPEATS_32),
    "fill_fits_not": filled(FITS_NOT),
    "compressible": compressible(1),
    "incompressible": incompressible(2),
    "nearly_incompressible": nearly_incompressible(3),
    "equal_ends_only": filled(FITS)[:2048] + compressible(4)[:2040] + filled(FITS)[:8],
}
