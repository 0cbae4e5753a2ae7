"""An engine whose device is memory: what `fuseswap.tiers.direct_io` asks of AIO, without a disk."""

from __future__ import annotations

import trio

from fuseswap.tiers.io_engine import Ended


class MemoryEngine:
    """See `fuseswap.tiers.io_engine.Engine`; ``data`` is the device."""

    def __init__(self, data: bytearray) -> None:
        self._data = data
        self.in_flight = 0

    def know(self, fd: int) -> None:
        pass

    def forget(self, fd: int) -> None:
        pass

    def submit(self, *, write: bool, fd: int, memory: memoryview, at: int, ended: Ended) -> None:
        size = len(memory)
        if write:
            self._data[at : at + size] = memory
        else:
            memory[:] = self._data[at : at + size]
        self.in_flight += 1
        trio.lowlevel.current_trio_token().run_sync_soon(self._end, ended, size)

    def _end(self, ended: Ended, size: int) -> None:
        self.in_flight -= 1
        ended(size)

    def reap(self) -> bool:
        return False

    async def run(self) -> None:
        await trio.sleep_forever()

    def close(self) -> None:
        pass
