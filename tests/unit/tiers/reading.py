"""A read that waits, as a test wants it."""

from __future__ import annotations

from functools import partial

from fuseswap.tiers import Tier
from fuseswap.waiting import called, result_of


async def read_extent(tier: Tier, extent: int, offset: int, length: int) -> bytes:
    """``length`` bytes at ``offset`` of ``extent``; raises the `OSError` of the tier."""
    found: bytes = result_of(await called(partial(tier.begin_read, extent, offset, length)))
    return found
