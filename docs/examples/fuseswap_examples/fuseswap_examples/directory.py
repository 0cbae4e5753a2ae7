"""A tier: each segment a file in a directory.  It runs in the tier process, on trio."""

from __future__ import annotations

import errno
import os

import trio

from fuseswap.tiers.tier_client import ClientSetup


class Directory:
    """``directory:/path`` of one tier; a file is named by its generation, which comes once."""

    def __init__(self, setup: ClientSetup) -> None:
        os.makedirs(setup.rest, mode=0o700, exist_ok=True)
        self._path = trio.Path(setup.rest)

    async def write(self, extent: int, generation: int, data: bytes) -> None:
        """All of a segment."""
        await (self._path / f"{generation:016x}").write_bytes(data)

    async def read(self, extent: int, generation: int, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``."""
        try:
            async with await trio.open_file(self._path / f"{generation:016x}", "rb") as file:
                await file.seek(offset)
                found = await file.read(length)
        except FileNotFoundError:
            found = b""
        if len(found) != length:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        return found

    async def release(self, extent: int, generation: int) -> None:
        """The segment is not needed any more."""
        await (self._path / f"{generation:016x}").unlink(missing_ok=True)
