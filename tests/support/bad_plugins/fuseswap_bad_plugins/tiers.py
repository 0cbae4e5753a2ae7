"""Tiers: files in a directory, and every so many reads and writes are spoiled.

Of the same bytes one read at most is: who asks again gets them.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

FAULTY_READS = 20
FAULTY_WRITES = 3


class _Files:
    """What is written is kept; ``setup`` is a `fuseswap.tiers.tier_client.ClientSetup`."""

    def __init__(self, setup: Any) -> None:
        self.directory = Path(setup.rest)
        self.directory.mkdir(exist_ok=True)
        self._spoiled: set[tuple[int, int, int]] = set()
        self._reads = 0
        self._writes = 0

    def spoil_read(self, data: bytes) -> bytes:
        """What a read returns instead."""
        raise NotImplementedError

    def spoil_write(self) -> None:
        """Before a write."""

    async def write(self, extent: int, generation: int, data: bytes) -> None:
        self._writes += 1
        if not self._writes % FAULTY_WRITES:
            self.spoil_write()
        (self.directory / f"{generation}").write_bytes(data)

    async def read(self, extent: int, generation: int, offset: int, length: int) -> bytes:
        with open(self.directory / f"{generation}", "rb") as file:
            data = os.pread(file.fileno(), length, offset)
        self._reads += 1
        what = generation, offset, length
        if self._reads % FAULTY_READS or what in self._spoiled:
            return data
        self._spoiled.add(what)
        return self.spoil_read(data)

    async def release(self, extent: int, generation: int) -> None:
        (self.directory / f"{generation}").unlink(missing_ok=True)


class RaisingFiles(_Files):
    """Raises, both when it reads and when it writes."""

    def spoil_read(self, data: bytes) -> bytes:
        raise KeyError("a tier has lost its way")

    def spoil_write(self) -> None:
        raise ValueError("a tier has lost its way")


class BlockingFiles(_Files):
    """Blocks for a second, and with it all that its process does; a few times."""

    _left = 5

    def spoil_read(self, data: bytes) -> bytes:
        self.spoil_write()
        return data

    def spoil_write(self) -> None:
        if self._left:
            self._left -= 1
            time.sleep(1)


class LyingFiles(_Files):
    """Returns other bytes of the right length."""

    def spoil_read(self, data: bytes) -> bytes:
        return data[:-1] + bytes([data[-1] ^ 1])


class _OnceFiles(_Files):
    """Once, since each of its processes would."""

    def spoil_read(self, data: bytes) -> bytes:
        marker = self.directory / "once"
        if not marker.exists():
            marker.touch()
            self.spoil_process()
        return data

    def spoil_process(self) -> None:
        """It does not go on."""
        raise NotImplementedError


class LeavingFiles(_OnceFiles):
    """Ends its process."""

    def spoil_process(self) -> None:
        raise SystemExit("a tier wants to go home")


class HangingFiles(_OnceFiles):
    """Never returns."""

    def spoil_process(self) -> None:
        while True:
            time.sleep(1)
