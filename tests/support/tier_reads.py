"""Reads and writes that wait, as a test wants them."""

from __future__ import annotations

from functools import partial

from fuseswap.tiers.callbacks import await_callback, result_of
from fuseswap.tiers.tier import Tier

GENERATION = 7


async def read_extent(tier: Tier, extent: int, offset: int, length: int) -> bytes:
    """``length`` bytes at ``offset`` of ``extent``; raises the `OSError` of the tier."""
    begin = partial(tier.begin_read, extent, GENERATION, offset, length)
    found: bytes = result_of(await await_callback(begin))
    return found


async def write_extent(tier: Tier, extent: int, segment: memoryview) -> None:
    """Write a whole ``segment``; raises the `OSError` of the tier."""
    result_of(await await_callback(partial(tier.begin_write, extent, GENERATION, segment)))
