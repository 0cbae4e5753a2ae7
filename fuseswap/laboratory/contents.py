"""Pages made of their size: 4096 bytes that lz4 makes as small as a trace says.

    +0     the hash, 8 bytes         so pages of one hash are alike, and no others
    +8     noise, as much as the size asks for, from one block of 8 KiB at a place of the hash
    +2032  2 bytes of the hash       where the store looks for its sample of contents
    then   zeros

The noise is no secret and is the same for all.  So a segment of such pages takes some 20 KiB on a
tier of the simulation (``simulated_tier.py``), though not one of them compresses further.
"""

from __future__ import annotations

import random
from bisect import bisect_left

import lz4.block

from fuseswap.units import PAGE_SIZE

_NOISE = random.Random(20240229).randbytes(2 * PAGE_SIZE)
_STEP = 16
_SAMPLE_AT = 2032
_ZEROS = bytes(PAGE_SIZE)


def page_of(number: int, noise_bytes: int) -> bytes:
    """4096 bytes; ``number``: the hash, 64 bits; ``noise_bytes`` 0 to 4088."""
    start = number % PAGE_SIZE
    head = number.to_bytes(8, "little") + _NOISE[start : start + noise_bytes]
    page = head + _ZEROS[len(head) :]
    return page[:_SAMPLE_AT] + head[2:4] + page[_SAMPLE_AT + 2 :]


def same_filled(number: int) -> bytes:
    """4096 bytes of one word of 32 bits."""
    return (number & 0xFFFFFFFF).to_bytes(4, "little") * (PAGE_SIZE // 4)


def _sizes() -> list[int]:
    """What lz4 makes of more and more noise, by steps of `_STEP`."""
    number = 0x9E3779B97F4A7C15
    found = [
        len(lz4.block.compress(page_of(number, noise), store_size=False))
        for noise in range(0, PAGE_SIZE - 8, _STEP)
    ]
    return [max(found[: at + 1]) for at in range(len(found))]


_SIZES = _sizes()


def noise_for(size: int) -> int:
    """How much noise makes lz4 give ``size`` bytes, 8 or so more or less; above 4040: all."""
    at = bisect_left(_SIZES, size)
    return PAGE_SIZE - 8 if at == len(_SIZES) else at * _STEP
