"""A tier: each segment a file in a directory.  It runs in the tier process, on trio."""

from __future__ import annotations

import errno
import os

import trio


class Directory:
    """``--tier directory:/path``; a file is named by its generation, which comes once."""

    def __init__(self, path: str) -> None:
        self._path = trio.Path(path)

    async def run(self) -> None:
        """Its own task: there is nothing to keep up."""
        await self._path.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def write(self, extent: int, generation: int, data: bytes) -> None:
        """All of a segment; raises `OSError`."""
        await (self._path / f"{generation:016x}").write_bytes(data)

    async def read(self, extent: int, generation: int, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``; raises `OSError`."""
        async with await trio.open_file(self._path / f"{generation:016x}", "rb") as file:
            await file.seek(offset)
            found = await file.read(length)
        if len(found) != length:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return found

    async def release(self, extent: int, generation: int) -> None:
        """The segment is not needed any more."""
        await (self._path / f"{generation:016x}").unlink(missing_ok=True)
