"""Segments at a remote tier, each with bytes of its own, read again and again and never wrong."""

from __future__ import annotations

import random
import time
from functools import partial

import trio

from fuseswap.tiers.callbacks import await_callback
from fuseswap.tiers.remote_tier import RemoteTier
from fuseswap.units import SEGMENT_BYTES

_PIECE_BYTES = 3000


class Segments:
    """What was written, by extent; an error is counted, wrong bytes are the end."""

    def __init__(self, tier: RemoteTier) -> None:
        self.tier = tier
        self.data: dict[int, tuple[int, bytes]] = {}  # generation and bytes
        self.errors: list[OSError] = []
        self.reads = 0
        self.longest_s = 0.0
        self._generation = 0
        self._random = random.Random(1)

    async def write(self, extent: int) -> OSError | None:
        """New bytes to a new generation; an old one is released."""
        self._generation += 1
        generation = self._generation
        data = self._random.randbytes(SEGMENT_BYTES)
        if old := self.data.pop(extent, None):
            self.tier.release(extent, old[0])
        begin = partial(self.tier.begin_write, extent, generation, memoryview(data))
        error: OSError | None = await await_callback(begin)
        if error is None:
            self.data[extent] = generation, data
        else:
            self.tier.release(extent, generation)
        return error

    async def read(self, extent: int) -> OSError | None:
        """A piece of it, somewhere."""
        generation, data = self.data[extent]
        offset = self._random.randrange(SEGMENT_BYTES - _PIECE_BYTES)
        begin = partial(self.tier.begin_read, extent, generation, offset, _PIECE_BYTES)
        began = time.monotonic()
        found: bytes | OSError = await await_callback(begin)
        self.longest_s = max(self.longest_s, time.monotonic() - began)
        self.reads += 1
        if isinstance(found, OSError):
            self.errors.append(found)
            return found
        assert found == data[offset : offset + _PIECE_BYTES], (extent, offset)
        return None

    async def read_all(self) -> None:
        """One piece of each, at the same time."""
        async with trio.open_nursery() as nursery:
            for extent in self.data:
                nursery.start_soon(self.read, extent)

    async def read_on(self) -> None:
        """Until it is cancelled, 8 at once."""
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(self._read_some)

    async def _read_some(self) -> None:
        while True:
            await self.read(self._random.choice([*self.data]))
            await trio.sleep(0.002)
